#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
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

constexpr int kRenames = 20;
constexpr size_t kContentBytes = 6000;

// A word of a folder that no other run has: the time and process of rank 0.
std::string make_token(Communicator& ranks) {
  const int64_t now = std::chrono::system_clock::now().time_since_epoch().count();
  return broadcast_text(ranks, concat(now, '-', ::getpid()), 0);
}

// A whole text of this size tells a torn one from a complete one.
std::string content_of(const std::string& token, int node, int version) {
  std::string text = concat(token, ' ', node, ' ', version, '\n');
  text.append(kContentBytes - text.size(), static_cast<char>('a' + version % 26));
  return text;
}

// On a network a file may be replaced between open and read (ESTALE): the next try sees the new
// one.
std::optional<std::string> text_of(const fs::path& path) {
  for (int attempt = 0; attempt < kRenames + 3; ++attempt) {
    std::string text(2 * kContentBytes, '\0');
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno != ESTALE) return std::nullopt;
    if (file < 0) continue;
    const ssize_t length = ::read(file, text.data(), text.size());
    const bool stale = length < 0 && errno == ESTALE;
    ::close(file);
    if (stale) continue;
    text.resize(static_cast<size_t>(std::max<ssize_t>(length, 0)));
    return text;
  }
  return std::nullopt;
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
    const std::optional<std::string> text = text_of(path_of(node));
    for (int version = 0; text && version <= newest; ++version) {
      if (*text == content_of(token_, node, version)) return version;
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
  SharedFolderCheck(const fs::path& folder, const HostSeat& seat, Communicator& ranks,
                    const std::string& option, Clock::duration patience)
      : folder_(folder),
        seat_(seat),
        ranks_(ranks),
        option_(option),
        patience_(patience),
        tokens_(folder, make_token(ranks), seat.node) {}

  void run() {
    write(0);
    await(0);
    // While one host replaces its file, the others must always see a whole one.
    for (int writer = 0; writer < nodes(); ++writer) watch_renames(writer);
    await(kRenames);
    ranks_.barrier();
  }

 private:
  int nodes() const { return static_cast<int>(seat_.hosts.size()); }
  const std::string& host_of(int node) const { return seat_.hosts[static_cast<size_t>(node)]; }

  std::string complaint(int node, const std::string& what) const {
    return concat("'", folder_.string(), "': host ", host_of(seat_.node), ' ', what, " host ",
                  host_of(node), " wrote: the folder is not shared by all hosts, or its file ",
                  "system does not rename in one step or shows the past; choose another ", option_);
  }

  std::string write_or_say(int version) {
    try {
      tokens_.write(version);
    } catch (const Error& error) {
      return concat("host ", host_of(seat_.node), ": ", error.what(), " (choose another ", option_,
                    ")");
    }
    return "";
  }

  void write(int version) { agree(ranks_, seat_.first ? write_or_say(version) : ""); }

  // Every host sees this version of every other host's file.
  void await(int version) {
    std::string problem;
    const auto start = Clock::now();
    for (int node = 0; seat_.first && problem.empty() && node < nodes(); ++node) {
      while (tokens_.read(node, version) != version && problem.empty()) {
        if (Clock::now() - start > patience_) problem = complaint(node, "does not see what");
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    }
    agree(ranks_, problem);
  }

  void watch_renames(int writer) {
    std::string problem;
    ranks_.barrier();
    if (seat_.first) problem = seat_.node == writer ? rename_often() : read_often(writer);
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
  const HostSeat& seat_;
  Communicator& ranks_;
  std::string option_;
  Clock::duration patience_;
  Tokens tokens_;
};

}  // namespace

HostSeat seat_of(const World& world, Communicator& ranks) {
  HostSeat seat{world.node(), world.local_rank() == 0, {}};
  seat.hosts.resize(static_cast<size_t>(world.nodes()));
  const std::vector<std::string> names = gather_texts(ranks, world.host());
  for (size_t r = 0; r < names.size(); ++r) {
    seat.hosts[static_cast<size_t>(world.node_of()[r])] = names[r];
  }
  return seat;
}

void check_shared_folder(const fs::path& folder, const HostSeat& seat, Communicator& ranks,
                         const std::string& option, std::chrono::milliseconds patience) {
  if (seat.hosts.size() == 1) return;
  SharedFolderCheck(folder, seat, ranks, option, patience).run();
}

}  // namespace halftone
