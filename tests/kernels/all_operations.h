#pragma once

#include <iterator>

#include "tests/kernels/reference_block_operations.h"
#include "tests/kernels/reference_integer_operations.h"
#include "tests/kernels/reference_operations.h"

// The lists of results of all the files of operations, one after the other.
namespace halftone::testing {

inline void append(Results more, Results* results) {
  std::move(more.begin(), more.end(), std::back_inserter(*results));
}

template <typename Memory>
Results all_operations(Memory& memory, const Context& context, const Matrix& w) {
  Results results = every_operation(memory, context, w);
  append(IntegerOperations<Memory>(memory, context, w).run(), &results);
  append(BlockOperations<Memory>(memory, context, w).run(), &results);
  return results;
}

inline Results all_references(const Matrix& w) {
  Results results = ReferenceOperations(w).run();
  append(ReferenceIntegerOperations(w).run(), &results);
  append(ReferenceBlockOperations(w).run(), &results);
  return results;
}

}  // namespace halftone::testing
