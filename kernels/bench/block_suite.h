#pragma once

#include <benchmark/benchmark.h>

#include "kernels/bench/integer_suite.h"
#include "kernels/bench/machine.h"
#include "kernels/bench/operation.h"
#include "tests/kernels/block_operations.h"

namespace halftone::bench {

// Static NVFP4 and its search, MX and NF4, on the memory of the other operations and what they have
// of their own.
class BlockSuite {
 public:
  BlockSuite(Machine& machine, const testing::Matrix& w, const Buffers& buffers)
      : machine_(machine), buffers_(buffers) {
    amax_ = testing::scales_of(w).amax;
    scale_2_ = amax_ / 2688.0f;
    const auto blocks = static_cast<size_t>(w.count() / 16);
    column_scale_ = upload(std::vector<float>(static_cast<size_t>(w.cols), 1.1f));
    block_amax_ = upload(std::vector<float>(blocks, 0.7f * amax_));
    hessian_ = upload(std::vector<float>(static_cast<size_t>(w.cols) * 16, 0.5f));
    candidates_ = upload({1.0f, 1.5f});
    table_ = upload(testing::nf4_table());
    results_ = machine.make(blocks * sizeof(float));
    scales_ = machine.make(blocks);
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
    const float amax = amax_;
    const float scale_2 = scale_2_;
    const float* const columns = f32(column_scale_);
    const float* const block_amax = f32(block_amax_);
    const float* const table = f32(table_);
    float* const results = f32(results_);
    auto* const scales = static_cast<uint8_t*>(scales_.get());
    add("amax_of_scaled", wide,
        [=] { benchmark::DoNotOptimize(amax_of_scaled(context, w, columns).value); });
    add("fake_quantize_nvfp4_scaled", 2 * wide,
        [=] { fake_quantize_nvfp4_scaled(context, w, columns, 16, amax, y); });
    add("static_nvfp4_scales", n / 16 * 5, [=] {
      static_nvfp4_scales(context, block_amax, n / 16, amax, 448.0f, Numerics::kCpu, scales);
    });
    add("quantize_nvfp4_with_scales", wide + n / 2 + n / 16,
        [=] { quantize_nvfp4_with_scales(context, w, 16, codes, scale_2, out); });
    for (const bool with_hessian : {false, true}) {
      const float* const hessian = with_hessian ? f32(hessian_) : nullptr;
      const float* const candidates = f32(candidates_);
      add(with_hessian ? "search_nvfp4_blocks_with_hessian" : "search_nvfp4_blocks", wide, [=] {
        search_nvfp4_blocks(context, w, block_amax, amax, 256.0f, candidates, 2, false, hessian,
                            results);
      });
    }
    add("quantize_mxfp4", wide + n / 2 + n / 32, [=] { quantize_mxfp4(context, w, out, scales); });
    add("dequantize_mxfp4", wide + n / 2 + n / 32,
        [=] { dequantize_mxfp4(context, codes, codes, w.rows, w.cols, w.dtype, y); });
    add("fake_quantize_mxfp4", 2 * wide, [=] { fake_quantize_mxfp4(context, w, y); });
    add("quantize_mxfp8", wide + n + n / 32, [=] { quantize_mxfp8(context, w, out, scales); });
    add("dequantize_mxfp8", wide + n + n / 32,
        [=] { dequantize_mxfp8(context, codes, codes, w.rows, w.cols, w.dtype, y); });
    add("fake_quantize_mxfp8", 2 * wide, [=] { fake_quantize_mxfp8(context, w, y); });
    add("quantize_nf4", wide + n / 2 + n / 16,
        [=] { quantize_nf4(context, w, 64, table, results, out); });
    add("quantize_nf4_in_own_type", wide + n / 2 + n / 16,
        [=] { quantize_nf4_in_own_type(context, w, 64, table, results, out); });
    add("dequantize_nf4", wide + n / 2 + n / 16,
        [=] { dequantize_nf4(context, codes, block_amax, 64, table, n, w.dtype, y); });
    return all;
  }

 private:
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
  float scale_2_ = 0.0f;
  Memory column_scale_, block_amax_, hessian_, candidates_, table_, results_, scales_;
};

}  // namespace halftone::bench
