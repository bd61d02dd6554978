#include "io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "io/shown_name.h"

namespace halftone {
namespace {

constexpr const char* kMetadata = "__metadata__";

constexpr std::array kDTypes = {
    DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2,
    DType::kI64, DType::kI32, DType::kI16, DType::kI8,   DType::kU8,     DType::kBool,
};

DType dtype_of(const std::string& name, const std::string& source) {
  std::string supported;
  for (const DType dtype : kDTypes) {
    if (name == name_of(dtype)) return dtype;
    supported += concat(supported.empty() ? "" : ", ", name_of(dtype));
  }
  throw InputError(concat(source, ": the dtype ", shown_name(name),
                          " is not supported; supported are ", supported));
}

std::optional<int64_t> product(int64_t a, int64_t b) {
  int64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

// An array of integers in [0, 2^63).
std::vector<int64_t> sizes_member(const Json& tensor, const char* key, const std::string& source) {
  const auto found = tensor.find(key);
  if (found == tensor.end()) throw InputError(concat(source, ": the key '", key, "' is missing"));
  if (!found->is_array()) {
    throw InputError(concat(source, ": '", key, "' must be an array of integers, found ",
                            found->dump().substr(0, 80)));
  }
  std::vector<int64_t> sizes;
  for (const Json& size : *found) {
    const bool fits = size.is_number_unsigned() && size.get<uint64_t>() <= uint64_t{INT64_MAX};
    if (!fits) {
      throw InputError(concat(source, ": '", key, "' must hold integers from 0 to 2^63 - 1, found ",
                              size.dump().substr(0, 80)));
    }
    sizes.push_back(size.get<int64_t>());
  }
  return sizes;
}

// `offset` counts from the start of the data here, as in the header.
TensorInfo parse_tensor(const std::string& name, const Json& value, int64_t data_bytes,
                        const std::string& source) {
  if (!value.is_object()) {
    throw InputError(concat(source, ": expected an object with dtype, shape and data_offsets, ",
                            "found ", value.dump().substr(0, 80)));
  }
  TensorInfo tensor;
  tensor.name = name;
  tensor.dtype = dtype_of(json_member<std::string>(value, "dtype", source), source);
  tensor.shape = sizes_member(value, "shape", source);
  const std::vector<int64_t> offsets = sizes_member(value, "data_offsets", source);
  if (offsets.size() != 2) {
    throw InputError(
        concat(source, ": 'data_offsets' must be [begin, end], found ", shape_text(offsets)));
  }
  if (offsets[0] > offsets[1] || offsets[1] > data_bytes) {
    throw InputError(concat(source, ": 'data_offsets' ", shape_text(offsets),
                            " must lie in the file's ", data_bytes, " data bytes, begin first"));
  }
  std::optional<int64_t> expected = size_of(tensor.dtype);
  for (const int64_t size : tensor.shape) {
    if (expected) expected = product(*expected, size);
  }
  if (!expected) {
    throw InputError(
        concat(source, ": the shape ", shape_text(tensor.shape), " needs more than 2^63 bytes"));
  }
  tensor.offset = offsets[0];
  tensor.bytes = offsets[1] - offsets[0];
  if (tensor.bytes != *expected) {
    throw InputError(concat(source, ": ", name_of(tensor.dtype), " ", shape_text(tensor.shape),
                            " takes ", *expected, " bytes, but 'data_offsets' ",
                            shape_text(offsets), " hold ", tensor.bytes));
  }
  return tensor;
}

// The tensors must tile the data: safetensors forbids overlaps, gaps and bytes that nobody owns.
void check_tiling(const std::map<std::string, TensorInfo>& tensors, int64_t data_bytes,
                  const fs::path& path) {
  std::vector<const TensorInfo*> by_offset;
  by_offset.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) by_offset.push_back(&tensor);
  std::sort(by_offset.begin(), by_offset.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes);
  });
  int64_t end = 0;
  const TensorInfo* before = nullptr;
  for (const TensorInfo* tensor : by_offset) {
    if (tensor->offset != end) {
      throw InputError(concat("'", path.string(), "': tensor ", shown_name(tensor->name),
                              " begins at byte ", tensor->offset, " of the data, expected ", end,
                              ", where ",
                              before ? shown_name(before->name) + " ends" : "the data begin",
                              tensor->offset < end ? " (they overlap)" : " (a gap)"));
    }
    end += tensor->bytes;
    before = tensor;
  }
  if (end != data_bytes) {
    throw InputError(concat("'", path.string(), "': the tensors end at byte ", end,
                            " of the data, but the file holds ", data_bytes,
                            " (wrong header or a damaged copy)"));
  }
}

std::map<std::string, std::string> parse_metadata(const Json& value, const std::string& source) {
  if (!value.is_object()) {
    throw InputError(concat(source, ": '", kMetadata, "' must be an object of strings, found ",
                            value.dump().substr(0, 80)));
  }
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      throw InputError(concat(source, ": '", key, "' in '", kMetadata, "' must be a string, found ",
                              text.dump().substr(0, 80)));
    }
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

// Of a file that holds the word.
uint64_t header_length(const File& file) {
  std::array<unsigned char, kLengthBytes> word{};
  file.read_at(0, word.data(), kLengthBytes);
  uint64_t length = 0;
  for (size_t i = 0; i < word.size(); ++i) length |= uint64_t{word[i]} << (8 * i);
  return length;
}

}  // namespace

std::string read_safetensors_header(const File& file) {
  const int64_t file_bytes = file.size();
  const std::string path = concat("'", file.path().string(), "'");
  if (file_bytes < kLengthBytes) {
    throw InputError(concat(path, " has ", file_bytes,
                            " bytes; a safetensors file begins with the ",
                            "8-byte length of its header (a truncated copy?)"));
  }
  const uint64_t length = header_length(file);
  if (length > uint64_t{kMaxHeaderBytes}) {
    throw InputError(concat(path, ": a header of ", length, " bytes; at most ", kMaxHeaderBytes,
                            " are allowed (is this a safetensors file?)"));
  }
  if (static_cast<int64_t>(length) > file_bytes - kLengthBytes) {
    throw InputError(concat(path, ": a header of ", length, " bytes, but only ",
                            file_bytes - kLengthBytes, " follow (a truncated copy?)"));
  }
  std::string text(length, '\0');
  file.read_at(kLengthBytes, text.data(), static_cast<int64_t>(length));
  return text;
}

std::string framed_safetensors_header(const File& file) {
  std::string frame(static_cast<size_t>(kLengthBytes) + read_safetensors_header(file).size(), '\0');
  file.read_at(0, frame.data(), static_cast<int64_t>(frame.size()));
  return frame;
}

int64_t announced_bytes(const File& file) {
  const int64_t file_bytes = file.size();
  if (file_bytes < kLengthBytes) return kLengthBytes;
  const auto length = static_cast<int64_t>(header_length(file));
  if (length < 0 || length > kMaxHeaderBytes) return 0;
  if (length > file_bytes - kLengthBytes) return kLengthBytes + length;
  try {
    const Json root = parse_json(read_safetensors_header(file), file.path().string());
    uint64_t end = 0;
    for (const auto& [name, value] : root.items()) {
      if (name == kMetadata || !value.is_object() || !value.contains("data_offsets")) continue;
      const Json& offsets = value.at("data_offsets");
      const bool sound =
          offsets.is_array() && offsets.size() == 2 && offsets[1].is_number_unsigned();
      if (sound) end = std::max(end, offsets[1].get<uint64_t>());
    }
    // An offset beyond this is damage, whatever the file's size.
    constexpr uint64_t kLargest = uint64_t{1} << 60;
    return end > kLargest ? 0 : kLengthBytes + length + static_cast<int64_t>(end);
  } catch (const InputError&) {
    return 0;
  }
}

SafetensorsHeader parse_safetensors_header(std::string_view text, int64_t file_bytes,
                                           const fs::path& path) {
  const std::string source = concat("header of '", path.string(), "'");
  if (text.empty() || text.front() != '{') {
    throw InputError(concat(source, ": expected a JSON object that begins with '{', found ",
                            text.empty() ? "nothing" : "something else"));
  }
  // To the parser a NUL ends the text, whatever follows.
  if (text.find('\0') != text.npos) {
    throw InputError(concat(source, ": not valid JSON: a NUL at byte ", text.find('\0')));
  }
  const Json root = parse_json(text, source);
  const int64_t data_bytes = file_bytes - kLengthBytes - static_cast<int64_t>(text.size());
  const int64_t data_begin = file_bytes - data_bytes;

  SafetensorsHeader header;
  for (const auto& [name, value] : root.items()) {
    if (name == kMetadata) {
      header.metadata = parse_metadata(value, source);
    } else {
      const std::string where = concat("'", path.string(), "': tensor ", shown_name(name));
      header.tensors.emplace(name, parse_tensor(name, value, data_bytes, where));
    }
  }
  check_tiling(header.tensors, data_bytes, path);
  for (auto& [name, tensor] : header.tensors) tensor.offset += data_begin;
  return header;
}

}  // namespace halftone
