#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>

#include "core/error.h"
#include "core/log.h"
#include "dist/agreement.h"
#include "dist/preflight.h"
#include "dist/world.h"

namespace halftone {
namespace {

using Clock = std::chrono::steady_clock;

// What a network file system may show of the past (NFS: three seconds at first, then longer).
constexpr std::chrono::seconds kPatience{10};
constexpr int kRenames = 20;

// A word of a folder that no other run has: the time and process of rank 0.
std::string make_token(Communicator& ranks) {
  const int64_t now = std::chrono::system_clock::now().time_since_epoch().count();
  return broadcast_text(ranks, concat(now, '-', ::getpid()), 0);
}

// A whole text of this size tells a torn one from a complete one.
std::string content_of(const std::string& token, int node, int version) {
  constexpr size_t kBytes = 6000;
  std::string text = concat(token, ' ', node, ' ', version, '\n');
  text.append(kBytes - text.size(), static_cast<char>('a' + version % 26));
  return text;
}

// The files of the check; this host's is removed at the end.
class Tokens {
 public:
  Tokens(const fs::path& folder, std::string token, int node)
      : folder_(folder), token_(std::move(token)), node_(node) {}
  ~Tokens() {
    std::error_code ignored;
    if (written_) fs::remove(path_of(node_), ignored);
  }
  Tokens(const Tokens&) = delete;
  Tokens& operator=(const Tokens&) = delete;

  // Replaces this host's file in one step.
  void write(int version) {
    written_ = true;
    write_text_file(path_of(node_), content_of(token_, node_, version));
  }
  // The version that this host sees of another's file; nothing: none, or not a whole one.
  std::optional<int> read(int node, int newest) const {
    try {
      const std::string text = read_text_file(path_of(node));
      for (int version = 0; version <= newest; ++version) {
        if (text == content_of(token_, node, version)) return version;
      }
    } catch (const InputError&) {
      return std::nullopt;
    }
    return std::nullopt;
  }

 private:
  fs::path path_of(int node) const {
    return folder_ / concat(".halftone-check-", token_, '-', node);
  }

  fs::path folder_;
  std::string token_;
  int node_;
  bool written_ = false;
};

// Hands on what went wrong on the first rank that has something to say.
void agree(Communicator& ranks, const std::string& problem) {
  for (const std::string& text : gather_texts(ranks, problem)) {
    if (!text.empty()) throw ResourceError(text);
  }
}

class SharedFolderCheck {
 public:
  SharedFolderCheck(const fs::path& folder, const World& world, Communicator& ranks,
                    const std::string& option)
      : folder_(folder),
        world_(world),
        ranks_(ranks),
        option_(option),
        hosts_(gather_texts(ranks, world.host())),
        tokens_(folder, make_token(ranks), world.node()) {}

  void run() {
    write(0);
    await(0);
    // While one host replaces its file, the others must always see a whole one.
    for (int writer = 0; writer < world_.nodes(); ++writer) watch_renames(writer);
    await(kRenames);
    ranks_.barrier();
  }

 private:
  bool leads() const { return world_.local_rank() == 0; }

  const std::string& host_of(int node) const {
    for (size_t r = 0; r < hosts_.size(); ++r) {
      if (world_.node_of()[r] == node) return hosts_[r];
    }
    return world_.host();
  }

  std::string complaint(int node, const std::string& what) const {
    return concat("'", folder_.string(), "': host ", world_.host(), ' ', what, " host ",
                  host_of(node), " wrote: the folder is not shared by all hosts, or its file ",
                  "system does not rename in one step or shows the past; choose another ", option_);
  }

  std::string write_or_say(int version) {
    try {
      tokens_.write(version);
    } catch (const Error& error) {
      return concat("host ", world_.host(), ": ", error.what(), " (choose another ", option_, ")");
    }
    return "";
  }

  void write(int version) { agree(ranks_, leads() ? write_or_say(version) : ""); }

  // Every host sees this version of every other host's file.
  void await(int version) {
    std::string problem;
    const auto start = Clock::now();
    for (int node = 0; leads() && problem.empty() && node < world_.nodes(); ++node) {
      while (tokens_.read(node, version) != version) {
        if (Clock::now() - start > kPatience) {
          problem = complaint(node, "does not see what");
          break;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      }
    }
    agree(ranks_, problem);
  }

  void watch_renames(int writer) {
    std::string problem;
    ranks_.barrier();
    if (leads()) problem = world_.node() == writer ? rename_often() : read_often(writer);
    agree(ranks_, problem);
  }
  std::string rename_often() {
    std::string problem;
    for (int version = 1; version <= kRenames && problem.empty(); ++version) {
      problem = write_or_say(version);
    }
    return problem;
  }
  std::string read_often(int writer) const {
    for (int i = 0; i < kRenames; ++i) {
      if (!tokens_.read(writer, kRenames)) return complaint(writer, "found half of what");
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return "";
  }

  fs::path folder_;
  const World& world_;
  Communicator& ranks_;
  std::string option_;
  std::vector<std::string> hosts_;
  Tokens tokens_;
};

}  // namespace

void check_shared_folder(const fs::path& folder, const World& world, Communicator& ranks,
                         const std::string& option) {
  if (world.nodes() == 1) return;
  SharedFolderCheck(folder, world, ranks, option).run();
}

}  // namespace halftone
