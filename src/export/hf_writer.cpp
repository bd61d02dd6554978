#include "export/hf_writer.h"

#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "dist/agreement.h"
#include "dist/reshard.h"
#include "export/sidecars.h"
#include "kernels/check.h"

namespace halftone {

HfWriter::HfWriter(fs::path folder, const HfLayout& layout, WriteQueue& queue)
    : folder_(std::move(folder)), layout_(layout), queue_(queue) {}

bool HfWriter::has_files() const {
  for (const HfLayout::OutputFile& planned : layout_.files) {
    const fs::path path = folder_ / planned.name;
    std::error_code error;
    if (static_cast<int64_t>(fs::file_size(path, error)) != planned.layout.file_bytes || error) {
      return false;
    }
    std::string header(planned.layout.header.size(), '\0');
    File::open_for_reading(path).read_at(0, header.data(), static_cast<int64_t>(header.size()));
    if (header != planned.layout.header) return false;
  }
  return true;
}

void HfWriter::begin(Communicator& communicator, bool resumed) {
  if (communicator.rank() == 0 && !resumed) {
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) {
      throw ResourceError(concat("cannot create '", folder_.string(), "': ", error.message(),
                                 " (choose another --out)"));
    }
    for (const HfLayout::OutputFile& planned : layout_.files) {
      File file = File::create(folder_ / planned.name);
      file.reserve(planned.layout.file_bytes);
      file.write_at(0, planned.layout.header.data(),
                    static_cast<int64_t>(planned.layout.header.size()));
      file.close();
    }
  }
  communicator.barrier();
  for (const HfLayout::OutputFile& planned : layout_.files) {
    files_.push_back(File::open_for_writing(folder_ / planned.name));
    files_.back().bypass_cache();
  }
}

void HfWriter::write(const std::string& name, HeldBytes bytes, int64_t index, int64_t count) {
  const TensorInfo& info = layout_.info(name);
  const int64_t size = bytes.bytes;
  check(info.bytes == size * count, "a tensor has its planned size: " + name);
  queue_.write(files_[layout_.file_of.at(name)], info.offset + index * size, std::move(bytes));
}

void HfWriter::write_sidecars(const Checkpoint& source, const QuantConfig& config) const {
  copy_other_files(source, folder_);
  write_index(layout_, folder_);
  write_configs(source, config, folder_);
  sync_directory(folder_);
}

void HfWriter::make_durable() {
  queue_.drain();
  for (File& file : files_) file.sync();
}

void HfWriter::complete(Communicator& communicator, const Checkpoint& source,
                        const QuantConfig& config) {
  make_durable();
  for (File& file : files_) file.close();
  communicator.barrier();
  if (communicator.rank() == 0) write_sidecars(source, config);
  communicator.barrier();
}

namespace {

// The sums of the files that are dealt to ranks like this, each by its rank; empty: to none (-1).
std::vector<std::string> sums_of(const fs::path& folder, const std::vector<std::string>& names,
                                 const std::vector<int>& rank_of, Communicator& communicator) {
  std::string mine;
  for (size_t i = 0; i < names.size(); ++i) {
    if (rank_of[i] == communicator.rank()) mine += sha256_of_file(folder / names[i]);
  }
  const std::vector<std::string> by_rank = gather_texts(communicator, mine);
  std::vector<size_t> taken(by_rank.size(), 0);
  std::vector<std::string> sums;
  for (const int rank : rank_of) {
    const auto r = static_cast<size_t>(rank);
    sums.push_back(rank < 0 ? "" : by_rank[r].substr(taken[r], kSha256HexLength));
    if (rank >= 0) taken[r] += kSha256HexLength;
  }
  return sums;
}

}  // namespace

std::string HfWriter::digest(const std::vector<int>& node_of, Communicator& communicator) const {
  // Rank 0's list: on NFS another host may still see the folder as it was before the last files.
  std::string list;
  if (communicator.rank() == 0) {
    for (const std::string& name : files_of_directory(folder_)) list += name + '\0';
  }
  list = broadcast_text(communicator, std::move(list), 0);
  std::vector<std::string> names;
  for (size_t begin = 0; begin < list.size(); begin += names.back().size() + 1) {
    names.emplace_back(list.c_str() + begin);
  }
  const std::vector<int> readers = deal_files(names.size(), node_of);
  const std::vector<int> checkers = deal_checks(readers, node_of);
  const std::vector<std::string> sums = sums_of(folder_, names, readers, communicator);
  const std::vector<std::string> again = sums_of(folder_, names, checkers, communicator);
  for (size_t i = 0; i < names.size(); ++i) {
    if (checkers[i] < 0 || sums[i] == again[i]) continue;
    throw VerificationError(concat("'", (folder_ / names[i]).string(), "': rank ", readers[i],
                                   " reads SHA-256 ", sums[i], ", rank ", checkers[i],
                                   " on another host ", again[i], ": check the file system"));
  }
  return digest_of_files(names, sums);
}

void HfWriter::write_summary(Communicator& communicator, const std::string& summary) const {
  if (communicator.rank() == 0) {
    write_text_file(folder_ / "summary.json", summary);
    sync_directory(folder_);
  }
  communicator.barrier();
}

}  // namespace halftone
