// Weights in E4M3 under scales of blocks, rows or the tensor: DeepSeek's weight_scale_inv, which is
// a multiplier despite its name, and compressed-tensors' weight_scale.
#include <ATen/ATen.h>

#include <array>

#include "core/error.h"
#include "core/log.h"
#include "formats/low_bit_source.h"

namespace halftone {
namespace {

constexpr int64_t kRowsAtATime = 128;

class Fp8Source : public SourceCodec {
 public:
  // Sizes of a block; the last one of a row or column may be shorter.
  Fp8Source(int64_t rows, int64_t cols) : block_rows_(rows), block_cols_(cols) {}

  std::string name() const override { return concat("fp8 ", block_rows_, "x", block_cols_); }

  at::Tensor decode(const std::vector<at::Tensor>& pieces, const std::vector<int64_t>& shape,
                    at::ScalarType dtype, ThreadPool* pool) const override {
    const int64_t rows = shape[0];
    const int64_t cols = shape[1];
    const at::Tensor codes_NK = pieces[0].view(at::kFloat8_e4m3fn);
    const at::Tensor scales =
        pieces[1]
            .to(at::kFloat)
            .view({(rows + block_rows_ - 1) / block_rows_, (cols + block_cols_ - 1) / block_cols_});
    at::Tensor w_NK = at::empty(shape, codes_NK.options().dtype(dtype));
    for_row_runs(
        rows, kRowsAtATime, codes_NK.is_cuda() ? nullptr : pool, [&](int64_t begin, int64_t end) {
          const at::Tensor of_row =
              at::arange(begin, end, scales.options().dtype(at::kLong)).floor_divide(block_rows_);
          const at::Tensor scales_NK =
              scales.index_select(0, of_row).repeat_interleave(block_cols_, 1).slice(1, 0, cols);
          const at::Tensor x_NK = codes_NK.slice(0, begin, end).to(at::kFloat);
          w_NK.slice(0, begin, end).copy_(x_NK * scales_NK);
        });
    return w_NK;
  }

 private:
  int64_t block_rows_;
  int64_t block_cols_;
};

// [rows, cols] of a block; 128 x 128 where the configuration does not say.
std::array<int64_t, 2> block_of(const SourceQuery& query) {
  const std::string source = (query.checkpoint.directory() / "config.json").string();
  for (const auto& [object, key] :
       {std::pair{&query.quantization, "weight_block_size"},
        std::pair{&source_weights(query.quantization), "block_structure"}}) {
    const auto found = object->find(key);
    if (found == object->end() || found->is_null()) continue;
    const bool pair = found->is_array() && found->size() == 2 && (*found)[0].is_number_integer() &&
                      (*found)[1].is_number_integer();
    if (!pair || (*found)[0] < 1 || (*found)[1] < 1 || (*found)[0] > 1 << 20 ||
        (*found)[1] > 1 << 20) {
      throw InputError(concat(source, ": '", key, "' must be two positive numbers, found ",
                              found->dump().substr(0, 80)));
    }
    return {(*found)[0].get<int64_t>(), (*found)[1].get<int64_t>()};
  }
  return {128, 128};
}

}  // namespace

std::optional<StoredTensor> find_fp8_source(const SourceQuery& query) {
  const Checkpoint& checkpoint = query.checkpoint;
  if (!checkpoint.has(query.name) || checkpoint.info(query.name).dtype != DType::kF8E4M3) {
    return std::nullopt;
  }
  std::string scales = query.name + "_scale_inv";
  if (!checkpoint.has(scales)) scales = query.name + "_scale";
  if (!checkpoint.has(scales) || query.shape.size() != 2) {
    throw InputError(concat("tensor '", query.name, "' in '",
                            checkpoint.file_of(query.name).string(),
                            "' is F8_E4M3, but has no scales: '", query.name, "_scale_inv' and '",
                            query.name, "_scale' are both missing"));
  }
  const int64_t rows = query.shape[0];
  const int64_t cols = query.shape[1];
  const auto [block_rows, block_cols] = block_of(query);
  StoredTensor stored{query.name, query.shape, query.dtype, {}};
  add_piece(query, {query.name}, {query.shape}, {DType::kF8E4M3}, stored);
  add_piece(query, {scales},
            {{(rows + block_rows - 1) / block_rows, (cols + block_cols - 1) / block_cols},
             {rows, 1},
             {rows},
             {1},
             {}},
            {DType::kF32, DType::kBF16, DType::kF16}, stored);
  const std::vector<int64_t>& shape = checkpoint.info(scales).shape;
  const int64_t count = checkpoint.info(scales).count();
  const bool blocks = shape.size() == 2 && (shape[1] > 1 || shape[0] != rows);
  if (blocks) {
    stored.codec = std::make_shared<const Fp8Source>(block_rows, block_cols);
  } else if (count == rows) {
    stored.codec = std::make_shared<const Fp8Source>(1, cols);
  } else {
    stored.codec = std::make_shared<const Fp8Source>(rows, cols);
  }
  return stored;
}

}  // namespace halftone
