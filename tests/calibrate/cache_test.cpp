// Keys and values: calibration.md, 6 and 15.8.
#include "core/error.h"
#include "tests/calibrate/stage_case.h"
#include "tests/core/temporary_folder.h"

namespace halftone::test {
namespace {

class CacheTest : public CollectiveTest {
 protected:
  StageCase with(KvFormat format, int64_t heads, int64_t dim) const {
    StageCase one;
    one.stage.attentions = {{"m.self_attn", heads, dim, dim}};
    one.plan.kv = {format};
    return one;
  }
};

at::Tensor example_keys() {
  return at::tensor({1.f,  2.f,  3.f,  4.f,  5.f, 6.f, 7.f, 8.f, .5f, -1.f, 0.f, 600.f,
                     -1.f, -2.f, -3.f, -4.f, 2.f, 2.f, 2.f, 2.f, 0.f, 1.f,  0.f, -1.f})
      .view({1, 2, 3, 4});
}

TEST_F(CacheTest, AffineFp8) {
  StageCase one = with(KvFormat::kFp8Affine, 2, 4);
  one.caches = {{example_keys()}};
  const SolvedStage solved = one.solve(*ranks_);
  const CacheScale& key = solved.solution.caches[0].key;
  expect_each_near(key.bias_HD,
                   {2.1666667, 2.3333333, 3.3333333, 204, .3333333, .3333333, -.3333333, -1}, 1e-6);
  EXPECT_EQ(key.amax, 396.0f);
  EXPECT_EQ(key.bias_HD.sizes().vec(), (std::vector<int64_t>{2, 4}));
  EXPECT_EQ(solved.solution.caches[0].value.amax, 396.0f);
}

// The mean of the batches' means, whichever ranks they are on; the amax is taken from it, so that
// it does not depend on the order of the batches.
TEST_F(CacheTest, AffineBiasesWeighBatchesAlike) {
  StageCase one = with(KvFormat::kNvfp4Affine, 2, 4);
  const at::Tensor keys = example_keys();
  one.caches = {{keys.slice(2, 0, 2)}, {keys.slice(2, 2, 3)}};
  const auto alone = make_lone_communicator();
  const CacheScale single = one.solve(*alone).solution.caches[0].key;
  const CacheScale key = one.solve(*ranks_).solution.caches[0].key;
  EXPECT_TRUE(at::equal(single.bias_HD, key.bias_HD));
  EXPECT_EQ(single.amax, key.amax);
  // ((4 + 8) / 2 + 600) / 2
  EXPECT_EQ(key.bias_HD[0][3].item<float>(), 303.0f);
  EXPECT_EQ(key.amax, 303.0f - 4.0f);
  std::swap(one.caches[0], one.caches[1]);
  EXPECT_EQ(one.solve(*ranks_).solution.caches[0].key.amax, key.amax);
}

TEST_F(CacheTest, PlainFormatsTakeTheLargestMagnitude) {
  for (const KvFormat format : {KvFormat::kFp8, KvFormat::kNvfp4}) {
    StageCase one = with(format, 2, 4);
    one.caches = {{example_keys()}, {-2.0 * example_keys()}, {example_keys()}};
    const CacheSolution cache = one.solve(*ranks_).solution.caches[0];
    EXPECT_EQ(cache.key.amax, 1200.0f);
    EXPECT_EQ(cache.value.amax, 1200.0f);
    EXPECT_FALSE(cache.key.bias_HD.defined());
  }
}

TEST_F(CacheTest, RotationMovesKeysOnly) {
  StageCase one = with(KvFormat::kNvfp4Rotate, 1, 16);
  at::Tensor keys = at::zeros({1, 1, 2, 16});
  keys[0][0][1][5] = 8.0f;
  one.caches = {{keys}};
  const CacheSolution cache = one.solve(*ranks_).solution.caches[0];
  EXPECT_EQ(cache.key.amax, 2.0f) << "8 spread over 16 channels";
  EXPECT_EQ(cache.value.amax, 8.0f);
}

TEST_F(CacheTest, CastsNeedNothing) {
  for (const KvFormat format : {KvFormat::kFp8Cast, KvFormat::kNvfp4Cast, KvFormat::kNone}) {
    const SolvedStage solved = with(format, 2, 4).solve(*ranks_);
    EXPECT_EQ(solved.solution.caches.size(), 1u);
    EXPECT_EQ(solved.solution.caches[0].key.amax, 0.0f);
  }
  expect_error<InputError>([&] { with(KvFormat::kNvfp4, 2, 4).solve(*ranks_); },
                           "'m.self_attn' saw no token in calibration");
}

}  // namespace
}  // namespace halftone::test
