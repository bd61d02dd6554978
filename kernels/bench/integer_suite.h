#pragma once

#include <benchmark/benchmark.h>

#include "kernels/bench/machine.h"
#include "kernels/bench/operation.h"
#include "tests/kernels/integer_operations.h"

namespace halftone::bench {

// What the operations work on, on the machine: w and y are [rows, cols] of w's dtype, codes and out
// have a byte for each element.
struct Buffers {
  MatrixView w;
  void* y;
  const uint8_t* codes;
  uint8_t* out;
};

// The integer formats and FP8 by rows, tiles and tokens, on the memory of the other operations and
// the scales that it owns.
class IntegerSuite {
 public:
  IntegerSuite(Machine& machine, const testing::Matrix& w, const Buffers& buffers)
      : machine_(machine), buffers_(buffers) {
    amax_ = testing::scales_of(w).amax;
    const std::vector<float> amaxes = testing::amaxes_of(w, 1, kBlock);
    amaxes_ = upload(amaxes);
    // As many as there are blocks: enough for rows and tiles.
    fp8_scales_ = upload(testing::scales_from(amaxes, 448.0f, 1.0f));
    int4_scales_ = upload(testing::scales_from(amaxes, 7.0f, 1.0f));
    const testing::IntegerCases cases(w);
    multipliers_ = upload(cases.multipliers.back());
    candidates_ = static_cast<int64_t>(cases.multipliers.back().size());
    column_scale_ = upload(cases.column_scale);
    results_ = upload(std::vector<float>(amaxes.size() + static_cast<size_t>(w.cols)));
  }

  std::vector<Operation> operations() const {
    std::vector<Operation> all;
    const auto add = [&](const char* name, int64_t bytes, std::function<void()> run) {
      all.push_back({name, bytes, std::move(run)});
    };
    const Context context = machine_.context();
    const auto [w, y, codes, out] = buffers_;
    const int64_t wide = w.bytes();
    const int64_t n = w.count();
    auto* const results = f32(results_);
    const float* const amaxes = f32(amaxes_);
    const float* const fp8 = f32(fp8_scales_);
    const float* const int4 = f32(int4_scales_);
    const float* const columns = f32(column_scale_);
    add("amax_of_blocks", wide, [=] { amax_of_blocks(context, w, kBlock, results); });
    add("amax_of_tiles", wide, [=] { amax_of_tiles(context, w, kBlock, results); });
    add("amax_of_columns", wide, [=] { amax_of_columns(context, w, results); });
    add("quantize_fp8_rows", wide + n, [=] { quantize_fp8_rows(context, w, fp8, out); });
    add("dequantize_fp8_rows", wide + n,
        [=] { dequantize_fp8_rows(context, codes, w.rows, w.cols, fp8, w.dtype, y); });
    add("quantize_fp8_tiles", wide + n, [=] { quantize_fp8_tiles(context, w, kBlock, fp8, out); });
    add("dequantize_fp8_tiles", wide + n,
        [=] { dequantize_fp8_tiles(context, codes, w.rows, w.cols, kBlock, fp8, w.dtype, y); });
    add("quantize_int4", wide + n / 2, [=] { quantize_int4(context, w, kBlock, int4, out); });
    add("dequantize_int4", wide + n / 2,
        [=] { dequantize_int4(context, codes, w.rows, w.cols, kBlock, int4, w.dtype, y); });
    add("fake_quantize_fp8_tokens", 2 * wide, [=] { fake_quantize_fp8_tokens(context, w, y); });
    add("fake_quantize_int8", 2 * wide, [=, this] { fake_quantize_int8(context, w, amax_, y); });
    add("fake_quantize_int4", 2 * wide,
        [=] { fake_quantize_int4(context, w, columns, kBlock, nullptr, 1.0f, y); });
    add("search_int_amax", wide, [=, this] {
      search_int_amax(context, w, 4, kBlock, amaxes, f32(multipliers_), candidates_, results);
    });
    return all;
  }

 private:
  static constexpr int64_t kBlock = 128;
  using Memory = std::shared_ptr<void>;

  static float* f32(const Memory& memory) { return static_cast<float*>(memory.get()); }
  Memory upload(const std::vector<float>& values) const {
    Memory memory = machine_.make(values.size() * sizeof(float));
    machine_.upload(testing::bytes_of(values), memory.get());
    return memory;
  }

  Machine& machine_;
  Buffers buffers_;
  float amax_ = 0.0f;
  int64_t candidates_ = 0;
  Memory amaxes_, fp8_scales_, int4_scales_, multipliers_, column_scale_, results_;
};

}  // namespace halftone::bench
