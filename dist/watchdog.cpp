#include "dist/watchdog.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "core/log.h"
#include "core/stop_signal.h"
#include "dist/agreement.h"
#include "dist/communicator.h"
#include "dist/local_process.h"
#include "dist/report_exchange.h"
#include "dist/roll_call.h"
#include "dist/world.h"

namespace halftone {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Short, since mpirun kills all ranks one second after one of them ended; long enough to cost
// nothing on a core that computes.
constexpr auto kPoll = 30ms;
constexpr auto kProcessCheck = 100ms;
// What the news of a loss may take to reach everybody before this process ends.
constexpr auto kFarewell = 400ms;
// After a signal everybody reports at each poll, so that who is silent for so long is missing. In
// time for mpirun's SIGKILL, a second after its SIGTERM.
constexpr auto kAlarmSilence = 600ms;
// mpirun sends its SIGTERM at once when it has lost a daemon; that there are orphans is known a
// little later.
constexpr auto kNewsOfOrphans = 400ms;
// The launcher ends a failed run within a second or two; after that this rank ends by itself.
constexpr auto kLauncherPatience = 3s;
constexpr int kPeerLost = 5;

// More often in small worlds, where lists are short.
Clock::duration beat_interval(int ranks, Clock::duration limit) {
  const Clock::duration wanted = 250ms * std::max(1, ranks / 64);
  return std::clamp<Clock::duration>(wanted, kPoll, std::max<Clock::duration>(kPoll, limit / 10));
}

// How old a report may be when the last rank hears of it.
Clock::duration report_delay(int ranks, Clock::duration limit) {
  const auto steps = static_cast<int>(std::ceil(std::log2(ranks)));
  return (steps + 1) * beat_interval(ranks, limit);
}

struct Neighbour {
  int rank;
  LocalProcess process;
  bool sibling;         // the same process started it and this rank
  bool missed = false;  // at the check before
};

struct Family {
  std::optional<LocalProcess> launcher;
  std::vector<Neighbour> neighbours;  // the other ranks of this host
};

}  // namespace

class Watchdog::Watch {
 public:
  Watch(const World& world, const WatchdogOptions& options, std::vector<std::string> hosts,
        Family family)
      : world_(world),
        limit_(options.limit),
        interval_(beat_interval(world.size(), options.limit)),
        // So that a loss shows within the limit.
        allowed_silence_(
            std::max<Clock::duration>(limit_ * 2 / 3, limit_ - report_delay(world.size(), limit_))),
        list_(world.rank(), std::move(hosts), Clock::now()),
        launcher_(family.launcher),
        neighbours_(std::move(family.neighbours)) {
    if (options.messages) {
      exchange_.emplace(world);
      messenger_ = std::thread([this] { exchange_reports(); });
    }
    judge_ = std::thread([this] { judge(); });
  }
  ~Watch() {
    abandoned_.store(true);
    judge_.join();
    if (messenger_.joinable()) messenger_.join();
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void finish() {
    done_.store(true);
    while (exchange_ && !over_.load()) std::this_thread::sleep_for(1ms);
  }

  void announce_failure(int code) {
    failure_.store(code);
    const auto start = Clock::now();
    while (exchange_ && !announced_.load() && Clock::now() - start < kFarewell) {
      std::this_thread::sleep_for(1ms);
    }
    // The judge ends the process when there are any.
    if (launcher_ && stop_requested()) std::this_thread::sleep_until(start + kNewsOfOrphans);
  }

 private:
  bool is_over() const { return abandoned_.load() || over_.load(); }

  // The messenger: all calls of MPI, and nothing that must not wait for them, since a call may hang
  // once a peer is gone.
  void exchange_reports() {
    Clock::time_point last_beat;
    while (!is_over()) {
      const auto now = Clock::now();
      talked_.store(now);
      take_own_news();
      const bool due = now - last_beat >= interval_;
      if (urgent_.exchange(false) || stop_requested() || due) {
        exchange_->send(next_reports());
        last_beat = now;
      }
      take(exchange_->progress());
      if (failure_.load() != 0 && !urgent_.load() && exchange_->idle()) announced_.store(true);
      if (all_done()) leave();
      std::this_thread::sleep_for(done_.load() ? 2ms : kPoll);
    }
  }

  void take_own_news() {
    const std::scoped_lock lock(mutex_);
    bool news = done_.load() && list_.set_standing(world_.rank(), Standing::kDone, 0);
    const int code = failure_.load();
    if (code != 0) news |= list_.set_standing(world_.rank(), Standing::kFailed, code);
    if (news) urgent_.store(true);
  }

  std::vector<RankReport> next_reports() {
    const std::scoped_lock lock(mutex_);
    list_.beat(world_.activity().now());
    return {list_.reports().begin(), list_.reports().end()};
  }

  void take(const std::vector<std::vector<RankReport>>& lists) {
    const std::scoped_lock lock(mutex_);
    for (const std::vector<RankReport>& reports : lists) {
      if (list_.merge(reports, Clock::now())) urgent_.store(true);
    }
  }

  bool all_done() {
    const std::scoped_lock lock(mutex_);
    return list_.all_done();
  }

  // Everybody knows, or learns from the last lists, that all are done.
  void leave() {
    const auto start = Clock::now();
    exchange_->send_last(next_reports());
    while (!exchange_->finished() && Clock::now() - start < limit_) {
      exchange_->progress();
      std::this_thread::sleep_for(1ms);
    }
    over_.store(true);
  }

  // The judge: who is missing. Calls nothing that may wait.
  void judge() {
    auto last = Clock::now();
    while (!is_over()) {
      {
        const std::scoped_lock lock(mutex_);
        const auto now = Clock::now();
        // A process that was stopped itself has not heard what the others said.
        if (now - last > std::min<Clock::duration>(limit_ / 4, 5s)) list_.forgive(now);
        last = now;
        list_.set_activity(world_.activity().now());
        if (stop_requested() && alarm_since_ == Clock::time_point()) alarm_since_ = now;
        if (!list_.all_done()) look_for_losses(now);
      }
      std::this_thread::sleep_for(kPoll);
    }
  }

  void look_for_losses(Clock::time_point now) {
    const bool check = now - last_check_ >= kProcessCheck;
    if (check) {
      last_check_ = now;
      if (launcher_ && launcher_->ended()) note_orphans();
    }
    // A run that fails or stops already may do so for that.
    if (list_.has_orphans()) end_with_loss();
    if (failure_.load() != 0) return;
    if (check) check_processes();
    if (exchange_) list_.note_silence(now, allowed_silence_);
    if (list_.lost()) end_with_loss();
    if (const std::optional<int> failed = list_.failed()) end_with_failure(*failed, now);
    warn_of_waits(now);
    if (stop_requested()) warn_of_quiet_ranks(now);
  }

  void note_orphans() {
    list_.set_standing(world_.rank(), Standing::kOrphan, 0);
    for (const Neighbour& neighbour : neighbours_) {
      if (neighbour.sibling) list_.set_standing(neighbour.rank, Standing::kOrphan, 0);
    }
  }

  // Two checks in a row, so that the news of a rank that ended in order comes first.
  void check_processes() {
    for (Neighbour& neighbour : neighbours_) {
      const Standing standing = list_.reports()[static_cast<size_t>(neighbour.rank)].standing;
      if (standing != Standing::kRunning || !neighbour.process.ended()) continue;
      if (neighbour.missed) list_.set_standing(neighbour.rank, Standing::kGone, 0);
      neighbour.missed = true;
    }
  }

  // Meanwhile the messenger tells the others. Called with the lock, which it must have.
  [[noreturn]] void end_with_loss() {
    // Where the network failed, several are silent: which of them is the cause nobody can tell.
    for (const int each : list_.lost_ranks()) log_error(list_.describe_loss(each));
    // Another rank's end makes the launcher send it; this rank must end with its own code.
    std::signal(SIGTERM, SIG_IGN);
    const bool speaks = world_.rank() == list_.first_alive();
    const Standing how = list_.reports()[static_cast<size_t>(*list_.lost())].standing;
    urgent_.store(true);
    mutex_.unlock();
    std::this_thread::sleep_for(kFarewell);
    // One rank asks the launcher to end what cannot end by itself: a process that is stopped.
    if (speaks && how == Standing::kSilent) world_.end_all(kPeerLost);
    std::_Exit(kPeerLost);
  }

  // The launcher ends this process when it can; the signal must do that soon.
  void end_with_failure(int failed, Clock::time_point now) {
    const int code = list_.reports()[static_cast<size_t>(failed)].code;
    if (failed_since_ == Clock::time_point()) {
      failed_since_ = now;
      told_already_ = stop_requested();
      restore_stop_signals();
    }
    if (told_already_ && now - failed_since_ >= kNewsOfOrphans) std::_Exit(code);
    if (now - failed_since_ < kLauncherPatience) return;
    log_error("rank ", failed, " ended the run with exit code ", code,
              "; its own message says why");
    std::_Exit(code);
  }

  void warn_of_waits(Clock::time_point now) {
    if (!exchange_ || now < next_warning_) return;
    next_warning_ = now + limit_ / 8;
    const std::string text = list_.describe_wait(limit_ / 2, now);
    if (text.empty()) {
      warning_gap_ = limit_ / 2;
      return;
    }
    log_warn(text);
    next_warning_ = now + warning_gap_;
    warning_gap_ *= 2;
  }

  // mpirun answers the end of a rank on another host with SIGTERM here and SIGKILL a second later:
  // this is the only chance to name who is missing. No more than a warning, since the signal may be
  // the user's. When a connection breaks Open MPI has a text to show, and its calls do not return
  // before mpirun, which sleeps between its signals, has taken it: then nothing is heard of ranks
  // that live either.
  void warn_of_quiet_ranks(Clock::time_point now) {
    if (!exchange_ || quiet_told_ || now - alarm_since_ < kAlarmSilence) return;
    quiet_told_ = true;
    std::vector<int> alive;
    const bool hangs = now - talked_.load() >= kAlarmSilence / 2;
    for (const Neighbour& neighbour : neighbours_) {
      if (hangs && !neighbour.process.ended()) alive.push_back(neighbour.rank);
    }
    const std::string quiet = list_.describe_quiet(kAlarmSilence, now, alive);
    if (quiet.empty()) return;
    log_warn("asked to stop; not heard of", hangs ? " (MPI hangs here: some may live): " : ": ",
             quiet);
  }

  const World& world_;
  const Clock::duration limit_;
  const Clock::duration interval_;
  const Clock::duration allowed_silence_;
  std::optional<ReportExchange> exchange_;  // of the messenger
  std::mutex mutex_;
  RollCall list_;  // under the mutex
  // Of the judge.
  const std::optional<LocalProcess> launcher_;
  std::vector<Neighbour> neighbours_;
  bool told_already_ = false;
  bool quiet_told_ = false;
  Clock::time_point last_check_;
  Clock::time_point failed_since_;
  Clock::time_point alarm_since_;
  Clock::time_point next_warning_;
  Clock::duration warning_gap_ = limit_ / 2;
  // Between the threads.
  std::atomic<bool> urgent_ = true;  // there is something to tell at once
  std::atomic<bool> done_ = false;
  std::atomic<bool> abandoned_ = false;
  std::atomic<bool> over_ = false;
  std::atomic<bool> announced_ = false;
  std::atomic<int> failure_ = 0;
  std::atomic<Clock::time_point> talked_ = Clock::now();  // when the messenger last had the word
  std::thread messenger_;
  std::thread judge_;
};

namespace {

Family find_family(const World& world, Communicator& ranks) {
  struct Kinship {
    LocalProcess process;
    LocalProcess launcher;
  };
  std::vector<Kinship> all(static_cast<size_t>(world.size()));
  Family family;
  family.launcher = LocalProcess::launcher();
  const Kinship mine = {LocalProcess::of_this_one(), family.launcher.value_or(LocalProcess())};
  all[static_cast<size_t>(world.rank())] = mine;
  ranks.all_gather(all.data(), sizeof(Kinship));
  for (int r = 0; r < world.size(); ++r) {
    const Kinship& other = all[static_cast<size_t>(r)];
    if (r == world.rank() || world.node_of()[static_cast<size_t>(r)] != world.node()) continue;
    // Where the ids are another container's, only the heartbeat tells.
    if (other.process.numbering != mine.process.numbering || other.process.ended()) continue;
    const bool sibling = other.launcher == mine.launcher;
    family.neighbours.push_back({r, other.process, sibling});
  }
  return family;
}

}  // namespace

Watchdog::Watchdog(const World& world, const WatchdogOptions& options) {
  const auto ranks = make_mpi_communicator(world);
  Family family;
  if (options.processes) family = find_family(world, *ranks);
  watch_ = std::make_unique<Watch>(world, options, gather_texts(*ranks, world.host()),
                                   std::move(family));
}

Watchdog::~Watchdog() = default;

void Watchdog::finish() {
  watch_->finish();
}

void Watchdog::announce_failure(int code) {
  watch_->announce_failure(code);
}

}  // namespace halftone
