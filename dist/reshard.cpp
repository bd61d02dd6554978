#include "dist/reshard.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>

#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "core/stop_signal.h"
#include "dist/agreement.h"
#include "dist/byte_gather.h"
#include "kernels/thread_pool.h"

namespace halftone {
namespace {

// Threads of a rank that mostly wait for the disk.
constexpr int kThreads = 4;
constexpr const char* kTemporary = ".tmp";

// A file while it is written. Its pieces are summed in their order and written in any.
class OutputFile {
 public:
  OutputFile(const TargetFile& target, fs::path path, int64_t pieces)
      : target_(target), path_(std::move(path)), left_(pieces) {}

  // The sum of everything, for the thread that wrote the last piece; empty for all others.
  std::string write(int64_t piece, const std::vector<char>& bytes, const std::atomic<bool>& stop) {
    std::call_once(opened_, [&] { open(); });
    if (!add_in_turn(piece, bytes, stop)) return "";
    file_.write_at(piece * ByteGatherer::kPieceBytes, bytes.data(),
                   static_cast<int64_t>(bytes.size()));
    if (--left_ > 0) return "";
    file_.sync();
    file_.close();
    rename_path(temporary(), path_);
    sync_directory(path_.parent_path());
    return sum_.hex();
  }
  void wake() {
    const std::lock_guard lock(mutex_);
    turn_.notify_all();
  }

 private:
  fs::path temporary() const { return path_.string() + kTemporary; }
  void open() {
    file_ = File::create(temporary());
    file_.reserve(target_.bytes);
    file_.bypass_cache();
  }
  // False: some other piece failed.
  bool add_in_turn(int64_t piece, const std::vector<char>& bytes, const std::atomic<bool>& stop) {
    std::unique_lock lock(mutex_);
    turn_.wait(lock, [&] { return next_ == piece || stop; });
    if (stop) return false;
    lock.unlock();
    sum_.update(bytes.data(), bytes.size());
    lock.lock();
    ++next_;
    turn_.notify_all();
    return true;
  }

  const TargetFile& target_;
  fs::path path_;
  std::once_flag opened_;
  File file_;
  std::mutex mutex_;
  std::condition_variable turn_;
  int64_t next_ = 0;
  Sha256 sum_;
  std::atomic<int64_t> left_;
};

// The files that one rank writes.
class RankWriter {
 public:
  RankWriter(const BytePlan& plan, const fs::path& folder, const FileManifest& manifest,
             const std::vector<size_t>& files)
      : plan_(plan), manifest_(manifest), files_(files), gatherer_(plan, files) {
    for (const size_t file : files) {
      const TargetFile& target = plan.files[file];
      outputs_[file] =
          std::make_unique<OutputFile>(target, folder / target.name, gatherer_.pieces_of(file));
    }
  }

  void run(std::map<size_t, FileRecord>& records) {
    const std::vector<Task> tasks = tasks_in_order();
    ThreadPool threads(kThreads);
    threads.for_each(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
      const Task& task = tasks[static_cast<size_t>(i)];
      if (stop_) return;
      try {
        if (stop_requested()) {
          throw StoppedError(
              "stopped by a signal; the same command goes on with the complete files");
        }
        if (const std::string sum = write(task); !sum.empty()) {
          const TargetFile& target = plan_.files[task.file];
          const FileRecord record{target.name, target.bytes, sum};
          manifest_.add(record);
          const std::lock_guard lock(mutex_);
          records[task.file] = record;
        }
      } catch (...) {
        stop_ = true;
        for (const auto& [file, output] : outputs_) output->wake();
        throw;
      }
    });
  }

 private:
  struct Task {
    size_t file = 0;
    int64_t piece = 0;
  };

  // Group by group, and there piece by piece of all files: they read the same places, and the next
  // one finds in the page cache what it needs. A thread that waits for its turn waits for a task
  // that was handed out before.
  std::vector<Task> tasks_in_order() const {
    std::map<size_t, std::vector<size_t>> groups;
    for (const size_t file : files_) groups[plan_.files[file].group].push_back(file);
    std::vector<Task> tasks;
    for (const auto& [group, files] : groups) {
      int64_t most = 0;
      for (const size_t file : files) most = std::max(most, gatherer_.pieces_of(file));
      for (int64_t piece = 0; piece < most; ++piece) {
        for (const size_t file : files) {
          if (piece < gatherer_.pieces_of(file)) tasks.push_back({file, piece});
        }
      }
    }
    return tasks;
  }

  std::string write(const Task& task) {
    thread_local std::vector<char> bytes;
    gatherer_.gather(task.file, task.piece, bytes);
    return outputs_.at(task.file)->write(task.piece, bytes, stop_);
  }

  const BytePlan& plan_;
  const FileManifest& manifest_;
  std::vector<size_t> files_;
  ByteGatherer gatherer_;
  std::map<size_t, std::unique_ptr<OutputFile>> outputs_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
};

bool is_intact(const fs::path& path, const FileRecord& record) {
  std::error_code error;
  return static_cast<int64_t>(fs::file_size(path, error)) == record.bytes && !error &&
         sha256_of_file(path) == record.sha256;
}

// What interrupted runs left under temporary names would count as space that is used.
void remove_temporary(const fs::path& path) {
  std::error_code ignored;
  fs::remove(path.string() + kTemporary, ignored);
}

void check_space(const fs::path& folder, int64_t needed, Communicator& ranks) {
  ranks.all_reduce(&needed, 1, DType::kI64, ReduceOp::kSum);
  if (ranks.rank() != 0) return;
  if (const int64_t free = free_bytes(folder); free < needed) {
    throw ResourceError(concat("'", folder.string(), "' has ", free, " bytes free, but the files ",
                               "that are still to be written need ", needed,
                               ": free some space or choose another --out"));
  }
}

// In the plan's order, on every rank.
std::vector<FileRecord> gather_records(const BytePlan& plan, const std::vector<int>& writers,
                                       const std::map<size_t, FileRecord>& mine,
                                       Communicator& ranks) {
  std::string sums;
  for (const auto& [file, record] : mine) sums += record.sha256;
  const std::vector<std::string> by_rank = gather_texts(ranks, sums);
  std::vector<size_t> taken(by_rank.size(), 0);
  std::vector<FileRecord> records;
  for (size_t i = 0; i < plan.files.size(); ++i) {
    const auto writer = static_cast<size_t>(writers[i]);
    records.push_back(
        {plan.files[i].name, plan.files[i].bytes,
         by_rank[writer].substr(taken[writer]++ * kSha256HexLength, kSha256HexLength)});
  }
  return records;
}

void check_elsewhere(const std::vector<FileRecord>& records, const std::vector<int>& writers,
                     const std::vector<int>& node_of, const fs::path& folder,
                     const FileManifest& manifest, Communicator& ranks) {
  const std::vector<int> checkers = deal_checks(writers, node_of);
  for (size_t i = 0; i < records.size(); ++i) {
    if (checkers[i] != ranks.rank()) continue;
    const fs::path path = folder / records[i].name;
    File::open_for_reading(path).forget_cache();
    if (is_intact(path, records[i])) continue;
    manifest.drop(records[i].name);
    throw VerificationError(concat("'", path.string(), "': rank ", ranks.rank(), " does not read ",
                                   "what rank ", writers[i], " wrote on another host, ",
                                   records[i].bytes, " bytes with SHA-256 ", records[i].sha256,
                                   ": check the file system; the same command writes it again"));
  }
  ranks.barrier();
}

}  // namespace

std::vector<int> deal_files(size_t files, const std::vector<int>& node_of) {
  std::vector<std::vector<int>> ranks_of(
      static_cast<size_t>(*std::max_element(node_of.begin(), node_of.end()) + 1));
  for (size_t r = 0; r < node_of.size(); ++r) {
    ranks_of[static_cast<size_t>(node_of[r])].push_back(static_cast<int>(r));
  }
  std::vector<int> writers;
  for (size_t i = 0; i < files; ++i) {
    const std::vector<int>& ranks = ranks_of[i % ranks_of.size()];
    writers.push_back(ranks[i / ranks_of.size() % ranks.size()]);
  }
  return writers;
}

std::vector<int> deal_checks(const std::vector<int>& writers, const std::vector<int>& node_of) {
  std::vector<int> checkers;
  for (size_t i = 0; i < writers.size(); ++i) {
    std::vector<int> others;
    for (size_t r = 0; r < node_of.size(); ++r) {
      if (node_of[r] != node_of[static_cast<size_t>(writers[i])]) {
        others.push_back(static_cast<int>(r));
      }
    }
    checkers.push_back(others.empty() ? -1 : others[i % others.size()]);
  }
  return checkers;
}

std::vector<FileRecord> reshard(const BytePlan& plan, const fs::path& folder,
                                const FileManifest& manifest, const std::vector<int>& node_of,
                                Communicator& ranks) {
  const std::vector<int> writers = deal_files(plan.files.size(), node_of);
  std::map<size_t, FileRecord> records;
  std::vector<size_t> left;
  int64_t needed = 0;
  for (size_t i = 0; i < plan.files.size(); ++i) {
    if (writers[i] != ranks.rank()) continue;
    const fs::path path = folder / plan.files[i].name;
    const std::optional<FileRecord> found = manifest.find(plan.files[i].name);
    if (found && is_intact(path, *found)) {
      log_info("'", path.string(), "' is complete already");
      records[i] = *found;
      continue;
    }
    remove_temporary(path);
    left.push_back(i);
    needed += plan.files[i].bytes;
  }
  check_space(folder, needed, ranks);
  RankWriter(plan, folder, manifest, left).run(records);
  ranks.barrier();
  std::vector<FileRecord> all = gather_records(plan, writers, records, ranks);
  check_elsewhere(all, writers, node_of, folder, manifest, ranks);
  return all;
}

}  // namespace halftone
