#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/pickle.h"

namespace halftone {

// Values of a pickle as what a reader expects; something else is an InputError that names `source`.

std::string text_of(const PickleValue& value, const std::string& source);
// From 0.
int64_t size_value_of(const PickleValue& value, const std::string& source);
// A torch.Size or a tuple or list of sizes.
std::vector<int64_t> sizes_of(const PickleValue& value, const std::string& source);
// A field of an object or a dict.
const PickleValue& field_of(const PickleValue& object, const char* field,
                            const std::string& source);
// `unit` times all sizes; more than 2^63 - 1: InputError.
int64_t product_of(const std::vector<int64_t>& sizes, int64_t unit, const std::string& source);

}  // namespace halftone
