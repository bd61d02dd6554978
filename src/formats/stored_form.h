#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/codec.h"

namespace halftone {

struct LinearFormat;

// How another library stores a linear of one of our formats: other tensors that hold the same
// codes and scales. Immutable.
class StoredForm {
 public:
  virtual ~StoredForm() = default;

  // Every stored tensor of a linear [out, in], names being suffixes.
  virtual std::vector<TensorSpec> tensors(const LinearFormat& format, int64_t out,
                                          int64_t in) const = 0;
  // From the unified tensors (stored_tensors() of a format without a form) to those, and back. On
  // the CPU. `module` is for errors: what the form cannot hold, or holds but we cannot read, is an
  // InputError.
  virtual PackedLinear encode(const std::string& module, const LinearFormat& format,
                              const PackedLinear& unified) const = 0;
  virtual PackedLinear decode(const std::string& module, const LinearFormat& format,
                              const PackedLinear& stored) const = 0;
};

}  // namespace halftone
