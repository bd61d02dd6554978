// gpt-oss' experts: E2M1 in blocks of 32 under E8M0 exponents, stacked over experts, output-major.
#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "formats/low_bit_source.h"

namespace halftone {
namespace {

constexpr int64_t kBlock = 32;
constexpr int64_t kRowsAtATime = 128;
constexpr int kExponentBias = 127;

class Mxfp4Source : public SourceCodec {
 public:
  std::string name() const override { return "mxfp4"; }

  // pieces: codes [out, blocks, 16], the low nibble first; exponents [out, blocks].
  at::Tensor decode(const std::vector<at::Tensor>& pieces, const std::vector<int64_t>& shape,
                    at::ScalarType dtype, ThreadPool* pool) const override {
    const int64_t rows = shape[0];
    const at::Tensor values = at::tensor({0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f,
                                          -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f},
                                         at::kFloat)
                                  .to(pieces[0].device());
    const at::Tensor codes_NB16 = pieces[0].view({rows, -1, kBlock / 2});
    const at::Tensor exponents_NB = pieces[1].view({rows, -1});
    at::Tensor w_NK = at::empty(shape, codes_NB16.options().dtype(dtype));
    for_row_runs(
        rows, kRowsAtATime, w_NK.is_cuda() ? nullptr : pool, [&](int64_t begin, int64_t end) {
          const at::Tensor bytes = codes_NB16.slice(0, begin, end);
          const at::Tensor codes =
              at::stack({at::bitwise_and(bytes, 15), at::bitwise_right_shift(bytes, 4)}, -1);
          const at::Tensor x = values.index_select(0, codes.reshape(-1).to(at::kInt))
                                   .view({end - begin, -1, kBlock});
          const at::Tensor exponents =
              exponents_NB.slice(0, begin, end).unsqueeze(-1).to(at::kInt) - kExponentBias;
          w_NK.slice(0, begin, end).copy_(at::ldexp(x, exponents).view({end - begin, -1}));
        });
    return w_NK;
  }

  at::Tensor block_exponents(const std::vector<at::Tensor>& pieces) const override {
    const at::Tensor& exponents = pieces[1];
    return exponents.dim() == 3 ? exponents.squeeze(0) : exponents;
  }
};

}  // namespace

std::optional<StoredTensor> find_mxfp4_source(const SourceQuery& query) {
  const StackedSlice& stacked = query.stacked;
  const std::string blocks = stacked.tensor + "_blocks";
  if (stacked.tensor.empty() || !query.checkpoint.has(blocks)) return std::nullopt;
  const int64_t rows = query.shape[0];
  const int64_t cols = query.shape[1];
  if (cols % kBlock != 0) {
    throw InputError(concat("'", query.name, "' is ", shape_text(query.shape), ", but '", blocks,
                            "' stores blocks of ", kBlock, " columns"));
  }
  StoredTensor stored{query.name, query.shape, query.dtype, {}};
  add_piece(query, {blocks, stacked.index, stacked.count},
            {{stacked.count, rows, cols / kBlock, kBlock / 2}}, {DType::kU8}, stored);
  add_piece(query, {stacked.tensor + "_scales", stacked.index, stacked.count},
            {{stacked.count, rows, cols / kBlock}}, {DType::kU8}, stored);
  stored.codec = std::make_shared<const Mxfp4Source>();
  return stored;
}

}  // namespace halftone
