// compressed-tensors' integers: pack-quantized (Kimi K2's INT4: weight_packed holds eight 4-bit or
// four 8-bit codes an int32, offset binary, the first in the low bits) and int-quantized INT8.
#include <ATen/ATen.h>

#include <cstring>

#include "core/error.h"
#include "core/log.h"
#include "formats/low_bit_source.h"

namespace halftone {
namespace {

constexpr int64_t kRowsAtATime = 128;
const std::vector<DType> kScaleTypes{DType::kF32, DType::kBF16, DType::kF16};

// codes int32 [rows, words] to [rows, cols], signed.
at::Tensor unpack_words(const at::Tensor& words, int bits, int64_t cols) {
  const int64_t per_word = 32 / bits;
  const at::Tensor shifts =
      at::arange(0, 32, bits, words.options().dtype(at::kInt)).view({1, 1, per_word});
  const at::Tensor codes =
      at::bitwise_and(at::bitwise_right_shift(words.unsqueeze(-1), shifts), (1 << bits) - 1);
  return codes.view({words.size(0), -1}).slice(1, 0, cols) - (1 << (bits - 1));
}

// w = (code - zero point) * scale, scales [out, groups]; the last piece holds the zero points, if
// there are any.
class IntSource : public SourceCodec {
 public:
  IntSource(int bits, bool packed, bool zero_points)
      : bits_(bits), packed_(packed), zero_points_(zero_points) {}

  std::string name() const override {
    return concat("int", bits_, packed_ ? " packed" : "", zero_points_ ? " asymmetric" : "");
  }

  at::Tensor decode(const std::vector<at::Tensor>& pieces, const std::vector<int64_t>& shape,
                    at::ScalarType dtype, ThreadPool* pool) const override {
    const int64_t rows = shape[0];
    const int64_t cols = shape[1];
    const at::Tensor scales =
        pieces[1].to(at::kFloat).reshape({-1, pieces[1].dim() == 2 ? pieces[1].size(1) : 1});
    const at::Tensor zeros = zero_points(pieces, rows);
    at::Tensor w_NK = at::empty(shape, pieces[0].options().dtype(dtype));
    const int64_t groups = scales.size(1);
    const int64_t group = (cols + groups - 1) / groups;
    const auto spread = [&](const at::Tensor& of_groups, int64_t begin, int64_t end) {
      const at::Tensor mine = of_groups.size(0) == 1 ? of_groups : of_groups.slice(0, begin, end);
      return mine.repeat_interleave(group, 1).slice(1, 0, cols);
    };
    for_row_runs(
        rows, kRowsAtATime, w_NK.is_cuda() ? nullptr : pool, [&](int64_t begin, int64_t end) {
          const at::Tensor words = pieces[0].slice(0, begin, end);
          at::Tensor q = (packed_ ? unpack_words(words, bits_, cols) : words).to(at::kFloat);
          if (zeros.defined()) q = q - spread(zeros, begin, end);
          w_NK.slice(0, begin, end).copy_(q * spread(scales, begin, end));
        });
    return w_NK;
  }

 private:
  // F32 [out, groups]; undefined: none. Packed ones lie eight (or four) rows to a word.
  at::Tensor zero_points(const std::vector<at::Tensor>& pieces, int64_t rows) const {
    if (!zero_points_) return {};
    const at::Tensor& stored = pieces.back();
    if (stored.scalar_type() != at::kInt) return stored.to(at::kFloat);
    return unpack_words(stored.t().contiguous(), bits_, rows).t().to(at::kFloat).contiguous();
  }

  int bits_;
  bool packed_;
  bool zero_points_;
};

int64_t group_of(const SourceQuery& query, int64_t cols) {
  const std::string source = (query.checkpoint.directory() / "config.json").string();
  const auto group =
      json_member_or<int64_t>(source_weights(query.quantization), "group_size", 0, source);
  return group < 1 || group > cols ? cols : group;
}

// weight_shape holds what the words cannot tell: how many columns are real.
void check_stored_shape(const SourceQuery& query, const std::string& name) {
  const TensorInfo& info = query.checkpoint.info(name);
  const bool fits = info.count() == 2 && (info.dtype == DType::kI64 || info.dtype == DType::kI32);
  std::vector<int64_t> stored;
  if (fits) {
    const std::vector<char> bytes = query.checkpoint.read_all(name);
    for (size_t i = 0; i < 2; ++i) {
      int64_t value = 0;
      int32_t narrow = 0;
      if (info.dtype == DType::kI64) {
        std::memcpy(&value, bytes.data() + 8 * i, 8);
      } else {
        std::memcpy(&narrow, bytes.data() + 4 * i, 4);
        value = narrow;
      }
      stored.push_back(value);
    }
  }
  if (stored == query.shape) return;
  throw InputError(concat("tensor '", name, "' in '", query.checkpoint.file_of(name).string(),
                          "' says ", fits ? shape_text(stored) : "no shape", ", but '", query.name,
                          "' is ", shape_text(query.shape), " in config.json"));
}

}  // namespace

int64_t codes_per_word(const Checkpoint& checkpoint, const Json& quantization) {
  const std::string source = (checkpoint.directory() / "config.json").string();
  const auto bits = json_member_or<int64_t>(source_weights(quantization), "num_bits", 4, source);
  if (bits == 4 || bits == 8) return 32 / bits;
  throw InputError(
      concat(source, ": 'num_bits' of packed weights is ", bits, "; supported: 4 and 8"));
}

std::optional<StoredTensor> find_packed_int_source(const SourceQuery& query) {
  const Checkpoint& checkpoint = query.checkpoint;
  const std::string packed = query.name + "_packed";
  if (!checkpoint.has(packed) || query.shape.size() != 2) return std::nullopt;
  if (checkpoint.has(query.name + "_g_idx")) {
    throw InputError(
        concat("'", query.name, "_g_idx': weights in activation order are not ", "supported"));
  }
  const int64_t rows = query.shape[0];
  const int64_t cols = query.shape[1];
  const int64_t per_word = codes_per_word(checkpoint, query.quantization);
  const int64_t group = group_of(query, cols);
  const int64_t groups = (cols + group - 1) / group;
  StoredTensor stored{query.name, query.shape, query.dtype, {}};
  add_piece(query, {packed}, {{rows, (cols + per_word - 1) / per_word}}, {DType::kI32}, stored);
  add_piece(query, {query.name + "_scale"}, {{rows, groups}, {1}}, kScaleTypes, stored);
  const std::string shape = query.name + "_shape";
  if (checkpoint.has(shape)) {
    check_stored_shape(query, shape);
    stored.companions.push_back(shape);
  }
  const std::string zeros = query.name + "_zero_point";
  if (checkpoint.has(zeros)) {
    add_piece(query, {zeros}, {{(rows + per_word - 1) / per_word, groups}, {rows, groups}},
              {DType::kI32, DType::kI8}, stored);
  }
  stored.codec = std::make_shared<const IntSource>(static_cast<int>(32 / per_word), true,
                                                   checkpoint.has(zeros));
  return stored;
}

std::optional<StoredTensor> find_int8_source(const SourceQuery& query) {
  const Checkpoint& checkpoint = query.checkpoint;
  if (!checkpoint.has(query.name) || checkpoint.info(query.name).dtype != DType::kI8 ||
      query.shape.size() != 2) {
    return std::nullopt;
  }
  const int64_t rows = query.shape[0];
  const int64_t cols = query.shape[1];
  const int64_t group = group_of(query, cols);
  const int64_t groups = (cols + group - 1) / group;
  StoredTensor stored{query.name, query.shape, query.dtype, {}};
  add_piece(query, {query.name}, {query.shape}, {DType::kI8}, stored);
  const std::vector<std::vector<int64_t>> shapes{{rows, groups}, {rows, 1}, {rows}, {1}, {}};
  add_piece(query, {query.name + "_scale"}, shapes, kScaleTypes, stored);
  const std::string zeros = query.name + "_zero_point";
  if (checkpoint.has(zeros)) add_piece(query, {zeros}, {{rows, groups}}, {DType::kI8}, stored);
  stored.codec = std::make_shared<const IntSource>(8, false, checkpoint.has(zeros));
  return stored;
}

}  // namespace halftone
