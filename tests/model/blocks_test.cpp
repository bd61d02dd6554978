#include "model/blocks.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

TEST(RmsNorm, EqualsItsFormula) {
  const at::Tensor x = numbers({3, 8}, 1).to(at::kBFloat16);
  const at::Tensor weight = (1.0 + numbers({8}, 2)).to(at::kBFloat16);
  const at::Tensor y = rms_norm(x, weight, 1e-2);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  for (int64_t row = 0; row < 3; ++row) {
    double squares = 0.0;
    for (int64_t i = 0; i < 8; ++i) squares += std::pow(x[row][i].item<double>(), 2);
    for (int64_t i = 0; i < 8; ++i) {
      const double normed = x[row][i].item<double>() / std::sqrt(squares / 8 + 1e-2);
      EXPECT_NEAR(y[row][i].item<double>(), normed * weight[i].item<double>(),
                  0.01 * std::abs(normed));
    }
  }
}

TEST(Norm, Kinds) {
  const at::Tensor x = numbers({3, 8}, 1);
  StageWeights weights;
  weights.set("n.weight", numbers({8}, 2));
  weights.set("n.bias", numbers({8}, 3));
  const at::Tensor plain = x * at::rsqrt(x.pow(2).mean(-1, true) + 1e-2);
  const at::Tensor& w = weights.at("n.weight");
  const auto norm = [&](NormKind kind) {
    return Norm{kind, 1e-2, "n.weight", kind == NormKind::kLayer ? "n.bias" : ""}(x, weights);
  };
  EXPECT_LE(relative_error(norm(NormKind::kRms), plain * w), 1e-6);
  EXPECT_LE(relative_error(norm(NormKind::kRmsWide), plain * w), 1e-6);
  EXPECT_LE(relative_error(norm(NormKind::kRmsPlusOne), plain * (1.0 + w)), 1e-6);
  const at::Tensor centered = x - x.mean(-1, true);
  const at::Tensor layer = centered / at::sqrt(centered.pow(2).mean(-1, true) + 1e-2);
  EXPECT_LE(relative_error(norm(NormKind::kLayer), layer * w + weights.at("n.bias")), 1e-6);
  EXPECT_TRUE(at::equal(Norm{}(x, weights), x)) << "no norm";
}

TEST(Norm, RoundsOnceOrTwice) {
  const at::Tensor x = numbers({64, 32}, 1).to(at::kBFloat16);
  StageWeights weights;
  weights.set("w", numbers({32}, 2).to(at::kBFloat16));
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor plain = wide * at::rsqrt(wide.pow(2).mean(-1, true) + 1e-5);
  const Norm once{NormKind::kRmsWide, 1e-5, "w"};
  const Norm twice{NormKind::kRms, 1e-5, "w"};
  const at::Tensor rounded = (plain * weights.at("w").to(at::kFloat)).to(at::kBFloat16);
  EXPECT_TRUE(at::equal(once(x, weights), rounded));
  EXPECT_TRUE(at::equal(twice(x, weights), weights.at("w") * plain.to(at::kBFloat16)));
  EXPECT_FALSE(at::equal(once(x, weights), twice(x, weights)));
}

// Every pair of query and key by the words of AttentionReach.
at::Tensor plain_mask(const BatchContext& batch, const AttentionReach& reach) {
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  at::Tensor mask = at::zeros({rows, 1, batch.length, batch.length}, at::kBool);
  for (int64_t b = 0; b < rows; ++b) {
    const TokenRange& real = batch.tokens[static_cast<size_t>(b)];
    for (int64_t q = real.begin; q < batch.length; ++q) {
      for (int64_t k = real.begin; k <= q && k < real.end; ++k) {
        const bool near = reach.window == 0 || k > q - reach.window;
        const bool together =
            reach.chunk == 0 || (q - real.begin) / reach.chunk == (k - real.begin) / reach.chunk;
        mask[b][0][q][k].fill_(near && together);
      }
    }
  }
  return mask;
}

TEST(AttentionMask, WindowsAndChunks) {
  const BatchContext padded{{{3, 11}, {0, 11}, {0, 9}}, 11, true};
  const BatchContext whole{{{0, 11}, {0, 11}}, 11, false};
  for (const AttentionReach& reach :
       {AttentionReach{}, {1, 0}, {4, 0}, {0, 4}, {0, 1}, {3, 5}, {11, 0}, {0, 11}, {10, 10}}) {
    EXPECT_TRUE(at::equal(attention_mask(padded, at::kCPU, reach), plain_mask(padded, reach)))
        << reach.window << " " << reach.chunk;
    const at::Tensor mask = attention_mask(whole, at::kCPU, reach);
    const bool plain = reach.window % 11 == 0 && reach.chunk % 11 == 0;
    ASSERT_EQ(mask.defined(), !plain) << "no mask where causal attention does";
    if (plain) continue;
    EXPECT_EQ(mask.size(0), 1) << "one for all rows";
    EXPECT_TRUE(at::equal(mask.expand({2, 1, 11, 11}), plain_mask(whole, reach)));
  }
}

// Softmax attention written out, one number after the other.
at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const BatchContext& batch, double scale) {
  const int64_t heads = q.size(1);
  const int64_t shared = heads / k.size(1);
  at::Tensor out = at::zeros_like(q);
  for (int64_t b = 0; b < q.size(0); ++b) {
    const TokenRange& real = batch.tokens[static_cast<size_t>(b)];
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t t = real.begin; t < real.end; ++t) {
        double total = 0.0;
        at::Tensor sum = at::zeros({q.size(3)}, at::kDouble);
        for (int64_t key = real.begin; key <= t; ++key) {
          const double score = q[b][h][t].dot(k[b][h / shared][key]).item<double>() * scale;
          total += std::exp(score);
          sum += std::exp(score) * v[b][h / shared][key];
        }
        out[b][h][t].copy_(sum / total);
      }
    }
  }
  return out;
}

TEST(Attention, GroupedQueriesAndPaddingEqualThePlainOne) {
  const at::Tensor q = numbers({2, 4, 5, 6}, 1).to(at::kDouble);
  const at::Tensor k = numbers({2, 2, 5, 6}, 2).to(at::kDouble);
  const at::Tensor v = numbers({2, 2, 5, 6}, 3).to(at::kDouble);
  const BatchContext whole{{{0, 5}, {0, 5}}, 5, false};
  EXPECT_FALSE(attention_mask(whole, at::kCPU).defined());
  EXPECT_LE(relative_error(attention(q, k, v, {}, 0.7), plain_attention(q, k, v, whole, 0.7)),
            1e-6);

  const BatchContext padded{{{2, 5}, {0, 4}}, 5, true};
  const at::Tensor mask = attention_mask(padded, at::kCPU);
  const at::Tensor out = attention(q, k, v, mask, 0.7);
  // Behind right padding a query still sees the row's keys; what it gives is nobody's.
  at::Tensor ours = out.clone();
  ours[1].slice(1, 4).zero_();
  EXPECT_LE(relative_error(ours, plain_attention(q, k, v, padded, 0.7)), 1e-6);
  EXPECT_EQ(out[0].slice(1, 0, 2).abs().max().item<double>(), 0.0) << "padding sees nothing";
}

TEST(Attention, SinksTakeTheirShare) {
  const at::Tensor q = numbers({2, 4, 5, 6}, 1);
  const at::Tensor k = numbers({2, 2, 5, 6}, 2);
  const at::Tensor v = numbers({2, 2, 5, 6}, 3);
  const at::Tensor sinks = 3.0 * numbers({4}, 4);
  const BatchContext padded{{{2, 5}, {0, 5}}, 5, true};
  const BatchContext whole{{{0, 5}, {0, 5}}, 5, false};
  for (const BatchContext& batch : {whole, padded}) {
    const at::Tensor mask = attention_mask(batch, at::kCPU, {3, 0});
    const at::Tensor scores = at::matmul(q, k.repeat_interleave(2, 1).transpose(2, 3)) * 0.7;
    const at::Tensor all = at::cat({scores.masked_fill(mask.logical_not(), -INFINITY),
                                    sinks.view({1, 4, 1, 1}).expand({2, 4, 5, 1})},
                                   -1);
    const at::Tensor shares = at::softmax(all, -1).slice(-1, 0, 5);
    const at::Tensor expected = at::matmul(shares, v.repeat_interleave(2, 1));
    EXPECT_LE(relative_error(attention_with_sinks(q, k, v, mask, 0.7, sinks), expected), 1e-6);
  }
  const at::Tensor far = at::full({4}, -1e4);
  EXPECT_LE(
      relative_error(attention_with_sinks(q, k, v, {}, 0.7, far), attention(q, k, v, {}, 0.7)),
      1e-6)
      << "causal without a mask";
}

}  // namespace
}  // namespace halftone::test
