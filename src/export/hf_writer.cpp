#include "export/hf_writer.h"

#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "dist/agreement.h"
#include "export/sidecars.h"
#include "kernels/check.h"

namespace halftone {
namespace {

void rename_or_fail(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) {
    throw ResourceError(
        concat("cannot rename '", from.string(), "' to '", to.string(), "': ", error.message()));
  }
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) {
    throw ResourceError(concat("cannot remove '", folder.string(), "': ", error.message()));
  }
}

}  // namespace

fs::path HfWriter::partial_path(const fs::path& out) {
  return out.parent_path() / concat(".", out.filename().string(), ".partial");
}

HfWriter::HfWriter(fs::path out, const HfLayout& layout, WriteQueue& queue)
    : out_(std::move(out)), partial_(partial_path(out_)), layout_(layout), queue_(queue) {}

void HfWriter::begin(Communicator& communicator) {
  if (communicator.rank() == 0) {
    remove_folder(partial_);
    std::error_code error;
    if (!fs::create_directories(partial_, error)) {
      throw ResourceError(concat("cannot create '", partial_.string(), "': ", error.message(),
                                 " (choose another --out)"));
    }
    for (const HfLayout::OutputFile& planned : layout_.files) {
      File file = File::create(partial_ / planned.name);
      file.reserve(planned.layout.file_bytes);
      file.write_at(0, planned.layout.header.data(),
                    static_cast<int64_t>(planned.layout.header.size()));
      file.close();
    }
  }
  communicator.barrier();
  for (const HfLayout::OutputFile& planned : layout_.files) {
    files_.push_back(File::open_for_writing(partial_ / planned.name));
  }
}

void HfWriter::write(const std::string& name, std::vector<char> bytes) {
  const TensorInfo& info = layout_.info(name);
  check(info.bytes == static_cast<int64_t>(bytes.size()), "a tensor has its planned size: " + name);
  queue_.write(files_[layout_.file_of.at(name)], info.offset, std::move(bytes));
}

void HfWriter::write_sidecars(const Checkpoint& source, const QuantConfig& config) const {
  copy_other_files(source, partial_);
  write_index(layout_, partial_);
  write_configs(source, config, partial_);
  sync_directory(partial_);
}

void HfWriter::complete(Communicator& communicator, const Checkpoint& source,
                        const QuantConfig& config) {
  queue_.drain();
  for (File& file : files_) {
    file.sync();
    file.close();
  }
  communicator.barrier();
  if (communicator.rank() == 0) write_sidecars(source, config);
  communicator.barrier();
}

std::string HfWriter::digest(Communicator& communicator) const {
  // Rank 0's list: on NFS another host may still see the folder as it was before the last files.
  std::string list;
  if (communicator.rank() == 0) {
    for (const std::string& name : files_of_directory(partial_)) list += name + '\0';
  }
  list = broadcast_text(communicator, std::move(list), 0);
  std::vector<std::string> names;
  for (size_t begin = 0; begin < list.size(); begin += names.back().size() + 1) {
    names.emplace_back(list.c_str() + begin);
  }
  std::string sums;
  for (size_t i = 0; i < names.size(); ++i) {
    if (static_cast<int>(i) % communicator.size() != communicator.rank()) continue;
    sums += sha256_of_file(partial_ / names[i]);
  }
  const std::vector<std::string> by_rank = gather_texts(communicator, sums);
  std::vector<std::string> in_order;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto rank = i % static_cast<size_t>(communicator.size());
    const size_t position = i / static_cast<size_t>(communicator.size());
    in_order.push_back(by_rank[rank].substr(position * kSha256HexLength, kSha256HexLength));
  }
  return digest_of_files(names, in_order);
}

void HfWriter::publish(Communicator& communicator, const std::string& summary, bool overwrite) {
  if (communicator.rank() == 0) {
    write_text_file(partial_ / "summary.json", summary);
    sync_directory(partial_);
    const fs::path aside = out_.parent_path() / concat(".", out_.filename().string(), ".replaced");
    remove_folder(aside);
    if (fs::exists(out_)) {
      if (!overwrite) {
        throw UsageError(concat("'", out_.string(), "' exists already: choose another --out, or ",
                                "pass --overwrite; the finished checkpoint is in '",
                                partial_.string(), "'"));
      }
      rename_or_fail(out_, aside);
    }
    rename_or_fail(partial_, out_);
    sync_directory(out_.parent_path().empty() ? fs::path(".") : out_.parent_path());
    remove_folder(aside);
  }
  communicator.barrier();
}

}  // namespace halftone
