// Layers whose experts are taken in groups give what they give whole.
#include <gtest/gtest.h>

#include "tests/engine/quantize_run.h"

namespace halftone::test {
namespace {

class ExpertGroups : public testing::TestWithParam<const char*> {
 protected:
  ExpertGroups() : checkpoint_(data_folder() / "archs" / GetParam()) {}

  std::string digest(const Recipe& recipe, const std::string& name, int64_t limit) {
    return quantize_to(folder_.path() / name, checkpoint_, {recipe}, batches_, cluster_,
                       int64_t{1} << 40, limit)
        .outputs[0]
        .digest;
  }

  TestCluster cluster_;
  SharedFolder folder_;
  Checkpoint checkpoint_;
  std::vector<Batch> batches_ = tiny_batches(9, 2, PadSide::kLeft);
};

// One expert at a time, and a few.
TEST_P(ExpertGroups, DoNotChangeAByte) {
  for (const char* format : {"fp8", "int8_sq"}) {
    const Recipe recipe = preset_with_cache(format, "fp8");
    const std::string whole = digest(recipe, "whole", INT64_MAX);
    for (const int64_t limit : {int64_t{1}, int64_t{20000}}) {
      EXPECT_EQ(digest(recipe, "groups", limit), whole) << format << ", " << limit;
    }
  }
}

// The stage is computed once more as it is served, again in groups.
TEST_P(ExpertGroups, DoNotChangeWhatIsPropagatedQuantized) {
  Recipe recipe = preset_with_cache("fp8", "fp8");
  recipe.propagate = Recipe::Propagate::kQuantized;
  const std::string whole = digest(recipe, "whole", INT64_MAX);
  EXPECT_EQ(digest(recipe, "groups", 20000), whole);
  recipe.propagate = Recipe::Propagate::kOriginal;
  EXPECT_NE(digest(recipe, "original", INT64_MAX), whole) << "it must make a difference";
}

INSTANTIATE_TEST_SUITE_P(Families, ExpertGroups,
                         testing::Values("mixtral-8x7b", "llama4-scout", "gpt-oss", "deepseek-v3"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) {
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace halftone::test
