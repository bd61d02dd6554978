#include "evaluate/model_input.h"

#include <cstring>

#include "core/error.h"
#include "core/log.h"
#include "io/safetensors.h"

namespace halftone {
namespace {

class InputFile {
 public:
  explicit InputFile(const fs::path& path) : file_(path) {}

  bool has(const std::string& name) const { return file_.tensors().count(name) > 0; }
  std::string place(const std::string& name) const {
    return concat("tensor '", name, "' in '", file_.path().string(), "'");
  }

  const TensorInfo& info(const std::string& name, size_t dimensions) const {
    if (!has(name)) {
      throw InputError(concat("'", file_.path().string(), "' has no tensor '", name, "'"));
    }
    const TensorInfo& found = file_.tensors().at(name);
    if (found.shape.size() == dimensions && found.count() > 0) return found;
    throw InputError(concat(place(name), " has shape ", shape_text(found.shape), "; expected ",
                            dimensions, " sizes, none of them 0"));
  }

  // I64, I32, I8, U8 or BOOL.
  std::vector<int64_t> integers(const TensorInfo& info) const {
    const std::vector<char> bytes = file_.read_all(info);
    std::vector<int64_t> values(static_cast<size_t>(info.count()));
    const auto size = static_cast<size_t>(size_of(info.dtype));
    const bool fits = info.dtype == DType::kI64 || info.dtype == DType::kI32 ||
                      info.dtype == DType::kU8 || info.dtype == DType::kBool;
    if (!fits)
      throw InputError(concat(place(info.name), " is ", name_of(info.dtype), "; expected I64"));
    for (size_t i = 0; i < values.size(); ++i) {
      int32_t narrow = 0;
      if (size == 8) {
        std::memcpy(&values[i], bytes.data() + 8 * i, 8);
      } else if (size == 4) {
        std::memcpy(&narrow, bytes.data() + 4 * i, 4);
        values[i] = narrow;
      } else {
        values[i] = static_cast<unsigned char>(bytes[i]);
      }
    }
    return values;
  }

  std::vector<int64_t> ids(const TensorInfo& info, int64_t vocabulary) const {
    std::vector<int64_t> values = integers(info);
    for (const int64_t id : values) {
      if (id >= 0 && id < vocabulary) continue;
      throw InputError(
          concat(place(info.name), " holds the id ", id, ", but the model has ", vocabulary));
    }
    return values;
  }

  // Ones in one run a row, as padding leaves them; all ones where the file has no mask.
  std::vector<uint8_t> mask(const std::string& name, const TensorInfo& ids) const {
    std::vector<uint8_t> mask(static_cast<size_t>(ids.count()), 1);
    if (!has(name)) return mask;
    const TensorInfo& found = info(name, 2);
    if (found.shape != ids.shape) {
      throw InputError(concat(place(name), " has shape ", shape_text(found.shape), "; expected ",
                              shape_text(ids.shape)));
    }
    const std::vector<int64_t> values = integers(found);
    const int64_t length = ids.shape[1];
    for (int64_t row = 0; row < ids.shape[0]; ++row) {
      int64_t changes = 0;
      int64_t ones = 0;
      for (int64_t t = 0; t < length; ++t) {
        const auto at = static_cast<size_t>(row * length + t);
        mask[at] = values[at] != 0 ? 1 : 0;
        ones += mask[at];
        if (t > 0 && mask[at] == 1 && mask[at - 1] == 0) ++changes;
      }
      const bool first = mask[static_cast<size_t>(row * length)] == 1;
      if (ones > 0 && changes + (first ? 1 : 0) == 1) continue;
      throw InputError(concat(place(name), ": row ", row,
                              " must have its ones in one run, padding before or behind it"));
    }
    return mask;
  }

  std::vector<float> floats(const TensorInfo& info) const {
    if (info.dtype != DType::kF32) {
      throw InputError(concat(place(info.name), " is ", name_of(info.dtype), "; expected F32"));
    }
    const std::vector<char> bytes = file_.read_all(info);
    std::vector<float> values(static_cast<size_t>(info.count()));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

 private:
  SafetensorsFile file_;
};

EncoderBatch encoder_input(const InputFile& file, const Model& model) {
  EncoderBatch encoder;
  if (file.has("input_features")) {
    const TensorInfo& info = file.info("input_features", 3);
    encoder.features = file.floats(info);
    encoder.channels = info.shape[1];
    encoder.length = info.shape[2];
    return encoder;
  }
  const TensorInfo& info = file.info("input_ids", 2);
  encoder.ids = file.ids(info, model.vocabulary());
  encoder.mask = file.mask("attention_mask", info);
  encoder.length = info.shape[1];
  return encoder;
}

}  // namespace

Batch read_model_input(const fs::path& path, const Model& model) {
  const InputFile file(path);
  const std::string ids = model.has_encoder() ? "decoder_input_ids" : "input_ids";
  const std::string mask = model.has_encoder() ? "decoder_attention_mask" : "attention_mask";
  const TensorInfo& info = file.info(ids, 2);
  Batch batch;
  batch.rows = info.shape[0];
  batch.length = info.shape[1];
  if (batch.length > model.max_positions()) {
    throw InputError(concat(file.place(ids), " has ", batch.length, " positions, the model ",
                            model.max_positions()));
  }
  batch.input_ids = file.ids(info, model.vocabulary());
  batch.mask = file.mask(mask, info);
  if (!model.has_encoder()) return batch;
  batch.encoder = encoder_input(file, model);
  const int64_t rows = file.info(file.has("input_features") ? "input_features" : "input_ids",
                                 file.has("input_features") ? 3 : 2)
                           .shape[0];
  if (rows != batch.rows) {
    throw InputError(
        concat(file.place(ids), " has ", batch.rows, " rows, but the encoder's input has ", rows));
  }
  return batch;
}

}  // namespace halftone
