#include "calibrate/observer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "calibrate/fake_quant.h"
#include "dist/reductions.h"
#include "formats/codecs.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

class ObserverTest : public testing::Test {
 protected:
  AmaxObserver observer(bool count_padding = false, bool key_value = true) {
    return {stage_, batch_, 17, {true, key_value, count_padding}};
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
  AmaxObserver runner = observer();
  const at::Tensor bias = numbers({32}, 3);
  EXPECT_TRUE(at::equal(runner.linear(0, x_, w_, bias), at::linear(x_, w_, bias)));
  const at::Tensor k = numbers({2, 2, 5, 8}, 4);
  const auto [key, value] = runner.key_value(0, k, k);
  EXPECT_TRUE(key.is_same(k) && value.is_same(k));
}

TEST_F(ObserverTest, LeavesPaddingOut) {
  x_[0][1][7] = 50.0f;
  x_[1][0][3] = -9.0f;
  AmaxObserver runner = observer();
  runner.linear(3, x_, w_, {});
  EXPECT_EQ(runner.statistics().input_amax[3], 9.0f);
  EXPECT_EQ(runner.statistics().tokens[3], 8);
  EXPECT_EQ(runner.statistics().input_amax[0], MaxBucket::kAbsent);

  AmaxObserver counting = observer(/*count_padding=*/true);
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
  AmaxObserver runner = observer();
  runner.key_value(0, k, v);
  EXPECT_LE(runner.statistics().key_amax[0], 1.0f);
  EXPECT_EQ(runner.statistics().key_amax[0], std::max(largest(k[0].slice(1, 2)), largest(k[1])));
  EXPECT_EQ(runner.statistics().value_amax[0], 30.0f);
  AmaxObserver counting = observer(true);
  counting.key_value(0, k, v);
  EXPECT_EQ(counting.statistics().key_amax[0], 70.0f);
  AmaxObserver blind = observer(true, /*key_value=*/false);
  blind.key_value(0, k, v);
  EXPECT_EQ(blind.statistics().key_amax[0], MaxBucket::kAbsent);
}

TEST_F(ObserverTest, LinearsThatShareAnInputObserveItOnce) {
  AmaxObserver runner = observer();
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
  AmaxObserver runner = observer();
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

TEST(FakeQuantRunner, QuantizesInputsAndTheCache) {
  StageFakeQuant stage;
  stage.codecs = {&fp8_codec(), &fp8_codec(), nullptr, &int8_weight_only_codec()};
  stage.input_amax = {2.0f, std::nullopt, 2.0f, std::nullopt};
  stage.kv = {KvFormat::kFp8, KvFormat::kNone};
  stage.kv_amax = {{1.0f, 1.7f}, {1.0f, 1.0f}};
  FakeQuantRunner runner(stage);
  const at::Tensor x = numbers({1, 3, 32}, 1);
  const at::Tensor w = numbers({8, 32}, 2);
  const at::Tensor bias = numbers({8}, 3);
  const at::Tensor plain = at::linear(x, w, bias);
  const at::Tensor quantized = at::linear(fp8_codec().fake_quantize_input(x, 2.0f), w, bias);
  EXPECT_FALSE(at::equal(plain, quantized));
  EXPECT_TRUE(at::equal(runner.linear(0, x, w, bias), quantized));
  for (const size_t site : {1u, 2u, 3u}) {
    EXPECT_TRUE(at::equal(runner.linear(site, x, w, bias), plain)) << site;
  }
  const auto [k, v] = runner.key_value(0, x, x);
  EXPECT_TRUE(at::equal(k, fake_quantize_kv(KvFormat::kFp8, x, 1.0f)));
  EXPECT_TRUE(at::equal(v, fake_quantize_kv(KvFormat::kFp8, x, 1.7f)));
  EXPECT_FALSE(at::equal(k, v));
  EXPECT_TRUE(runner.key_value(1, x, x).first.is_same(x));
}

}  // namespace
}  // namespace halftone::test
