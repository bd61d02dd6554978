#include "export/element_change.h"

#include "export/reshard_builder.h"
#include "kernels/numeric_types.h"

namespace halftone {
namespace {

void convert(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t count,
             bool plus_one) {
  with_element(from_dtype, [&](auto source) {
    using Source = decltype(source);
    with_element(to_dtype, [&](auto target) {
      using Target = decltype(target);
      const auto* x = static_cast<const typename Source::Storage*>(from);
      auto* y = static_cast<typename Target::Storage*>(to);
      for (int64_t i = 0; i < count; ++i) {
        const float value = Source::load(x[i]);
        // Adding 0 would turn -0 into 0.
        y[i] = Target::store(plus_one ? value + 1.0f : value);
      }
    });
  });
}

}  // namespace

std::shared_ptr<const ElementChange> element_change(DType from, DType to, bool plus_one) {
  if (!plus_one && !converts(from, to)) return nullptr;
  return std::make_shared<const ElementChange>(ElementChange{
      size_of(from), size_of(to),
      [=](const void* x, void* y, int64_t count) { convert(x, from, y, to, count, plus_one); }});
}

}  // namespace halftone
