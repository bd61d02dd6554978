#pragma once

#include "io/safetensors_header.h"
#include "io/tensor_container.h"

namespace halftone {

class SafetensorsContainer : public TensorContainer {
 public:
  explicit SafetensorsContainer(const fs::path& path) : file_(path) {}

  const std::map<std::string, TensorInfo>& tensors() const override { return file_.tensors(); }
  const fs::path& file_of(const TensorInfo& /*tensor*/) const override { return file_.path(); }
  void read(const TensorInfo& tensor, int64_t begin, int64_t bytes, void* data) const override {
    file_.read(tensor, begin, bytes, data);
  }
  void bypass_cache() override { file_.bypass_cache(); }
  void identify(const Identify& add) const override {
    const File file = File::open_for_reading(file_.path());
    add(file_.path().filename().string(), file.size(), read_safetensors_header(file));
  }
  int64_t change_time() const override { return halftone::change_time(file_.path()); }

 private:
  SafetensorsFile file_;
};

}  // namespace halftone
