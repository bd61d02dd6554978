#include "core/sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <functional>
#include <future>
#include <vector>

#include "kernels/check.h"

namespace halftone {

struct Sha256::State {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                  &EVP_MD_CTX_free};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  check(EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) == 1, "SHA-256 starts");
}

Sha256::~Sha256() = default;

void Sha256::update(const void* data, size_t bytes) {
  check(EVP_DigestUpdate(state_->context.get(), data, bytes) == 1, "SHA-256 takes data");
}

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> sum{};
  unsigned int length = 0;
  check(EVP_DigestFinal_ex(state_->context.get(), sum.data(), &length) == 1, "SHA-256 ends");
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (unsigned int i = 0; i < length; ++i) {
    text += kDigits[sum[i] >> 4];
    text += kDigits[sum[i] & 15];
  }
  return text;
}

std::string sha256_of_bytes(const void* data, size_t bytes) {
  Sha256 sum;
  sum.update(data, bytes);
  return sum.hex();
}

// A thread reads the next piece while this one is summed.
std::string sha256_of_file(const fs::path& path) {
  constexpr int64_t kPiece = 4 << 20;
  File file = File::open_for_reading(path);
  file.bypass_cache();
  const int64_t bytes = file.size();
  std::array<std::vector<char>, 2> buffers;
  const auto read = [&](int64_t offset, std::vector<char>& buffer) {
    buffer.resize(static_cast<size_t>(std::min(kPiece, bytes - offset)));
    file.read_at(offset, buffer.data(), static_cast<int64_t>(buffer.size()));
  };
  Sha256 sum;
  if (bytes > 0) read(0, buffers[0]);
  for (int64_t offset = 0, turn = 0; offset < bytes; offset += kPiece, turn = 1 - turn) {
    std::future<void> next;
    if (offset + kPiece < bytes) {
      next = std::async(std::launch::async, read, offset + kPiece,
                        std::ref(buffers[static_cast<size_t>(1 - turn)]));
    }
    const std::vector<char>& piece = buffers[static_cast<size_t>(turn)];
    sum.update(piece.data(), piece.size());
    if (next.valid()) next.get();
  }
  return sum.hex();
}

std::vector<std::string> files_of_directory(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    const std::string name = fs::relative(entry.path(), directory).generic_string();
    if (name != "summary.json") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string digest_of_files(const std::vector<std::string>& names,
                            const std::vector<std::string>& sums) {
  check(names.size() == sums.size(), "every file has a sum");
  Sha256 digest;
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string line = names[i] + "\n" + sums[i] + "\n";
    digest.update(line.data(), line.size());
  }
  return digest.hex();
}

std::string digest_of_directory(const fs::path& directory,
                                const std::map<std::string, std::string>& known) {
  std::map<std::string, std::string> sums = known;
  // A network file system may not show yet what another host has written.
  for (const std::string& name : files_of_directory(directory)) {
    if (sums.count(name) == 0) sums[name] = sha256_of_file(directory / name);
  }
  std::vector<std::string> names;
  std::vector<std::string> in_order;
  for (const auto& [name, sum] : sums) {
    names.push_back(name);
    in_order.push_back(sum);
  }
  return digest_of_files(names, in_order);
}

}  // namespace halftone
