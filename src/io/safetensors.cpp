#include "io/safetensors.h"

#include "io/safetensors_header.h"
#include "kernels/check.h"

namespace halftone {

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t size : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(size);
  }
  return text + "]";
}

SafetensorsFile::SafetensorsFile(const fs::path& path) : file_(File::open_for_reading(path)) {
  SafetensorsHeader header =
      parse_safetensors_header(read_safetensors_header(file_), file_.size(), path);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
}

void SafetensorsFile::read(const TensorInfo& tensor, int64_t begin, int64_t bytes,
                           void* data) const {
  check(begin >= 0 && bytes >= 0 && begin <= tensor.bytes && bytes <= tensor.bytes - begin,
        "a read stays inside its tensor");
  file_.read_at(tensor.offset + begin, data, bytes);
}

std::vector<char> SafetensorsFile::read_all(const TensorInfo& tensor) const {
  std::vector<char> data(static_cast<size_t>(tensor.bytes));
  read(tensor, 0, tensor.bytes, data.data());
  return data;
}

}  // namespace halftone
