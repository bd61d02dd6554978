#include "calibrate/observer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "calibrate/fake_quant.h"
#include "dist/reductions.h"
#include "formats/kv_cache.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

class ObserverTest : public testing::Test {
 protected:
  Observer observer(bool count_padding = false, bool key_value = true) {
    ObserveOptions options;
    options.mean_abs = true;
    options.capture = true;
    options.key_value = key_value;
    options.count_padding = count_padding;
    return {stage_, batch_, 17, options};
  }

  StageSpec stage_ = tiny_model(tiny_config())->stages()[1];
  // Row 0 is padded by two on the left.
  BatchContext batch_{{{2, 5}, {0, 5}}, 5, true};
  at::Tensor x_ = numbers({2, 5, 32}, 1);
  at::Tensor w_ = numbers({32, 32}, 2);
};

float largest(const at::Tensor& x) {
  return x.abs().max().item<float>();
}

TEST_F(ObserverTest, ComputesPlainly) {
  Observer runner = observer();
  const at::Tensor bias = numbers({32}, 3);
  EXPECT_TRUE(at::equal(runner.linear(0, x_, w_, bias), at::linear(x_, w_, bias)));
  const at::Tensor k = numbers({2, 2, 5, 8}, 4);
  const auto [key, value] = runner.key_value(0, k, k);
  EXPECT_TRUE(key.is_same(k) && value.is_same(k));
}

TEST_F(ObserverTest, LeavesPaddingOut) {
  x_[0][1][7] = 50.0f;
  x_[1][0][3] = -9.0f;
  Observer runner = observer();
  runner.linear(3, x_, w_, {});
  EXPECT_EQ(runner.statistics().input_amax[3], 9.0f);
  EXPECT_EQ(runner.statistics().tokens[3], 8);
  EXPECT_EQ(runner.statistics().input_amax[0], MaxBucket::kAbsent);

  Observer counting = observer(/*count_padding=*/true);
  counting.linear(3, x_, w_, {});
  EXPECT_EQ(counting.statistics().input_amax[3], 50.0f);
  EXPECT_EQ(counting.statistics().tokens[3], 10);
}

TEST_F(ObserverTest, KeysAndValues) {
  // Left padding again, where the position is the third dimension; a view that is not contiguous.
  const at::Tensor k = numbers({2, 5, 2, 8}, 5).transpose(1, 2);
  const at::Tensor v = numbers({2, 5, 2, 8}, 6).transpose(1, 2);
  k[0][1][1][0] = 70.0f;
  v[0][0][2][0] = 30.0f;
  Observer runner = observer();
  runner.key_value(0, k, v);
  EXPECT_LE(runner.statistics().keys[0].amax, 1.0f);
  EXPECT_EQ(runner.statistics().keys[0].amax, std::max(largest(k[0].slice(1, 2)), largest(k[1])));
  EXPECT_EQ(runner.statistics().values[0].amax, 30.0f);
  Observer counting = observer(true);
  counting.key_value(0, k, v);
  EXPECT_EQ(counting.statistics().keys[0].amax, 70.0f);
  Observer blind = observer(true, /*key_value=*/false);
  blind.key_value(0, k, v);
  EXPECT_EQ(blind.statistics().keys[0].amax, MaxBucket::kAbsent);
}

TEST_F(ObserverTest, LinearsThatShareAnInputObserveItOnce) {
  Observer runner = observer();
  runner.linear(0, x_, w_, {});
  const float seen = runner.statistics().input_amax[0];
  // What a second look at the same tensor would find.
  x_[1][1][1] = 99.0f;
  runner.linear(1, x_, w_, {});
  EXPECT_EQ(runner.statistics().input_amax[1], seen);
  EXPECT_EQ(runner.statistics().tokens[1], 8);
  runner.linear(2, x_.clone(), w_, {});
  EXPECT_EQ(runner.statistics().input_amax[2], 99.0f);
}

TEST_F(ObserverTest, DoesNotKeepActivationsNorMistakeOneForAnother) {
  Observer runner = observer();
  for (int i = 1; i <= 20; ++i) {
    // A freed tensor's place is the next one's: the observer must still tell them apart.
    bool freed = false;
    std::vector<float> memory(2 * 5 * 32, static_cast<float>(i));
    at::Tensor x = at::from_blob(
        memory.data(), {2, 5, 32}, [&](void*) { freed = true; }, at::kFloat);
    runner.linear(0, x, w_, {});
    EXPECT_EQ(runner.statistics().input_amax[0], static_cast<float>(i));
    x.reset();
    EXPECT_TRUE(freed) << "the observer keeps an activation";
  }
}

TEST_F(ObserverTest, NonFiniteInputsNameTheLinearAndTheBatch) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    at::Tensor x = x_.clone();
    x[1][2][3] = bad;
    expect_error<InputError>(
        [&] { observer().linear(4, x, w_, {}); },
        "the input of 'model.layers.0.mlp.gate_proj' is NaN or infinite in calibration batch 17");
    at::Tensor k = numbers({2, 2, 5, 8}, 4);
    k[1][1][3][0] = bad;
    expect_error<InputError>(
        [&] {
          observer().key_value(0, k, numbers({2, 2, 5, 8}, 1));
        },
        "the keys of 'model.layers.0.self_attn'");
    expect_error<InputError>(
        [&] {
          observer().key_value(0, numbers({2, 2, 5, 8}, 1), k);
        },
        "the values of 'model.layers.0.self_attn'");
  }
  at::Tensor padding = x_.clone();
  padding[0][0][0] = NAN;
  observer().linear(4, padding, w_, {});
  EXPECT_THROW(observer(true).linear(4, padding, w_, {}), InputError);
}

// Row 0 without its two padded positions, then row 1.
at::Tensor real_rows(const at::Tensor& x) {
  return at::cat({x[0].slice(0, 2), x[1]});
}

TEST_F(ObserverTest, ChannelsMeansAndTokens) {
  x_[0][1][7] = 50.0f;
  Observer runner = observer();
  runner.linear(3, x_, w_, {});
  const at::Tensor rows = real_rows(x_);
  EXPECT_TRUE(at::equal(runner.statistics().channel_amax[3], rows.abs().amax(0)));
  EXPECT_TRUE(at::allclose(runner.statistics().mean_abs[3], rows.abs().mean(0), 1e-6, 0));
  EXPECT_TRUE(at::equal(runner.captured()[3], rows));
  EXPECT_FALSE(runner.captured()[2].defined());
  EXPECT_FALSE(runner.statistics().mean_abs[2].defined());
  Observer counting = observer(/*count_padding=*/true);
  counting.linear(3, x_, w_, {});
  EXPECT_EQ(counting.statistics().channel_amax[3][7].item<float>(), 50.0f);
  EXPECT_TRUE(at::equal(counting.captured()[3], x_.view({10, 32})));
}

TEST_F(ObserverTest, ExpertsSeeTokensWithoutPadding) {
  Observer runner = observer();
  const at::Tensor tokens = numbers({3, 32}, 9);
  runner.linear(0, tokens, w_, {});
  EXPECT_EQ(runner.statistics().tokens[0], 3);
  EXPECT_TRUE(at::equal(runner.captured()[0], tokens));
  runner.linear(1, at::empty({0, 32}), w_, {});
  EXPECT_EQ(runner.statistics().tokens[1], 0);
  EXPECT_EQ(runner.statistics().input_amax[1], MaxBucket::kAbsent) << "no token, no maximum";
}

TEST_F(ObserverTest, TakesOnlyWhatItIsAskedFor) {
  ObserveOptions options = ObserveOptions::nothing();
  EXPECT_FALSE(options.any());
  Observer blind(stage_, batch_, 0, options);
  blind.linear(0, x_, w_, {});
  EXPECT_EQ(blind.statistics().tokens[0], 0);
  EXPECT_FALSE(blind.captured()[0].defined());
  ObserveOptions more = ObserveOptions::nothing();
  more.mean_abs = true;
  options.add(more);
  EXPECT_TRUE(options.any() && options.mean_abs && !options.capture && !options.inputs);
}

TEST_F(ObserverTest, ExtremesAndMeansOfTheCache) {
  ObserveOptions options;
  options.rotated_keys = true;
  Observer runner(stage_, batch_, 0, options);
  const at::Tensor k = numbers({2, 2, 5, 8}, 5);
  const at::Tensor v = numbers({2, 2, 5, 8}, 6);
  runner.key_value(0, k, v);
  const auto rows = [](const at::Tensor& states) {
    return real_rows(states.transpose(1, 2).reshape({2, 5, 16}));
  };
  const CacheStatistics& keys = runner.statistics().keys[0];
  EXPECT_TRUE(at::equal(keys.largest, rows(k).amax(0)));
  EXPECT_TRUE(at::equal(keys.smallest, rows(k).amin(0)));
  EXPECT_TRUE(at::allclose(keys.mean, rows(k).mean(0), 1e-5, 1e-7));
  EXPECT_EQ(keys.rotated_amax, largest(rows(hadamard(k))));
  EXPECT_EQ(runner.statistics().values[0].rotated_amax, MaxBucket::kAbsent);
  EXPECT_EQ(runner.statistics().values[0].amax, largest(rows(v)));
}

TEST(FakeQuantRunner, QuantizesInputsAndTheCache) {
  StageFakeQuant stage;
  stage.linears.resize(4);
  stage.linears[0] = {InputKind::kFp8, 2.0f, {}, {}, {}};
  stage.linears[2] = {InputKind::kNvfp4, 2.0f, {}, {}, {}};
  stage.kv = {KvFormat::kFp8, KvFormat::kNone};
  stage.caches = {{{1.0f, {}}, {1.7f, {}}}, {}};
  FakeQuantRunner runner(stage);
  const at::Tensor x = numbers({1, 3, 32}, 1);
  const at::Tensor w = numbers({8, 32}, 2);
  const at::Tensor bias = numbers({8}, 3);
  const at::Tensor plain = at::linear(x, w, bias);
  for (const size_t site : {0u, 2u}) {
    const at::Tensor quantized =
        at::linear(fake_quantize_input(stage.linears[site].input, x, 2.0f), w, bias);
    EXPECT_FALSE(at::equal(plain, quantized));
    EXPECT_TRUE(at::equal(runner.linear(site, x, w, bias), quantized));
  }
  for (const size_t site : {1u, 3u}) {
    EXPECT_TRUE(at::equal(runner.linear(site, x, w, bias), plain)) << site;
  }
  const auto [k, v] = runner.key_value(0, x, x);
  EXPECT_TRUE(at::equal(k, fake_quantize_kv(KvFormat::kFp8, true, x, {1.0f, {}})));
  EXPECT_TRUE(at::equal(v, fake_quantize_kv(KvFormat::kFp8, false, x, {1.7f, {}})));
  EXPECT_FALSE(at::equal(k, v));
  EXPECT_TRUE(runner.key_value(1, x, x).first.is_same(x));
}

// y = Q(x s) W^T + ((x s) A^T) B^T + b
TEST(FakeQuantRunner, SmoothsAndAddsTheBranch) {
  StageFakeQuant stage;
  const at::Tensor scale = numbers({32}, 4).abs() + 0.5;
  const at::Tensor a = numbers({2, 32}, 5);
  const at::Tensor b = numbers({8, 2}, 6);
  stage.linears = {{InputKind::kFp8, 2.0f, scale, a, b}};
  const at::Tensor x = numbers({1, 3, 32}, 1);
  const at::Tensor w = numbers({8, 32}, 2);
  const at::Tensor bias = numbers({8}, 3);
  const at::Tensor smooth = x * scale;
  const at::Tensor expected =
      at::linear(fake_quantize_input(InputKind::kFp8, smooth, 2.0f), w, bias) +
      at::matmul(at::matmul(smooth, a.t()), b.t());
  EXPECT_TRUE(at::allclose(FakeQuantRunner(stage).linear(0, x, w, bias), expected, 1e-5, 1e-6));
}

}  // namespace
}  // namespace halftone::test
