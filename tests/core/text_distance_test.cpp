#include "core/text_distance.h"

#include <gtest/gtest.h>

namespace halftone {
namespace {

TEST(TextDistanceTest, HintsAtTheNearest) {
  const std::vector<std::string> names = {"fp8", "nvfp4", "int8_sq"};
  EXPECT_EQ(nearest_hint("nvpf4", names), " (did you mean 'nvfp4'?)");
  EXPECT_EQ(nearest_hint("fp9", names), " (did you mean 'fp8'?)");
  EXPECT_EQ(nearest_hint("something else", names), "");
  EXPECT_EQ(nearest_hint("fp8", {}), "");
}

}  // namespace
}  // namespace halftone
