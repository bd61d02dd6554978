#include "dist/roll_call.h"

#include <algorithm>

#include "core/log.h"
#include "kernels/check.h"

namespace halftone {
namespace {

int64_t milliseconds(RollCall::Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

// "0.4 s", "12 s"
std::string seconds_text(int64_t milliseconds) {
  if (milliseconds >= 10'000) return concat(milliseconds / 1000, " s");
  return concat(milliseconds / 1000, '.', milliseconds % 1000 / 100, " s");
}

// "rank 4", "ranks 0-2, 5"
std::string ranks_text(const std::vector<size_t>& ranks) {
  std::string list;
  for (size_t i = 0; i < ranks.size();) {
    size_t end = i;
    while (end + 1 < ranks.size() && ranks[end + 1] == ranks[end] + 1) ++end;
    list += concat(list.empty() ? "" : ", ", ranks[i]);
    if (end > i) list += concat('-', ranks[end]);
    i = end + 1;
  }
  return concat(ranks.size() == 1 ? "rank " : "ranks ", list);
}

bool is_lost(Standing standing) {
  return standing >= Standing::kSilent;
}

}  // namespace

RollCall::RollCall(int rank, std::vector<std::string> hosts, Time now)
    : rank_(static_cast<size_t>(rank)),
      hosts_(std::move(hosts)),
      reports_(hosts_.size()),
      heard_(hosts_.size(), now) {
  check(rank_ < hosts_.size(), "a rank of this run");
}

void RollCall::beat(const ActivityState& activity) {
  ++reports_[rank_].beat;
  set_activity(activity);
}

void RollCall::set_activity(const ActivityState& activity) {
  reports_[rank_].activity = activity;
}

bool RollCall::merge(std::span<const RankReport> other, Time now) {
  check(other.size() == reports_.size(), "lists of the same run");
  bool news = false;
  for (size_t r = 0; r < other.size(); ++r) {
    if (other[r].standing > reports_[r].standing) {
      reports_[r].standing = other[r].standing;
      reports_[r].code = other[r].code;
      news = true;
    }
    if (r == rank_ || other[r].beat <= reports_[r].beat) continue;
    reports_[r].beat = other[r].beat;
    reports_[r].activity = other[r].activity;
    heard_[r] = now;
  }
  return news;
}

bool RollCall::set_standing(int rank, Standing standing, int32_t code) {
  RankReport& report = reports_[static_cast<size_t>(rank)];
  if (standing <= report.standing) return false;
  report.standing = standing;
  report.code = code;
  return true;
}

void RollCall::note_silence(Time now, Duration limit) {
  for (size_t r = 0; r < reports_.size(); ++r) {
    const Duration silence = now - heard_[r];
    if (r == rank_ || silence < limit) continue;
    set_standing(static_cast<int>(r), Standing::kSilent,
                 static_cast<int32_t>(std::min<int64_t>(milliseconds(silence), INT32_MAX)));
  }
}

void RollCall::forgive(Time now) {
  std::fill(heard_.begin(), heard_.end(), now);
}

bool RollCall::all_done() const {
  return std::all_of(reports_.begin(), reports_.end(),
                     [](const RankReport& report) { return report.standing == Standing::kDone; });
}

std::optional<int> RollCall::failed() const {
  for (size_t r = 0; r < reports_.size(); ++r) {
    if (reports_[r].standing == Standing::kFailed) return static_cast<int>(r);
  }
  return std::nullopt;
}

std::optional<int> RollCall::lost() const {
  const std::vector<int> ranks = lost_ranks();
  if (ranks.empty()) return std::nullopt;
  return ranks.front();
}

std::vector<int> RollCall::lost_ranks() const {
  std::vector<int> ranks;
  for (size_t r = 0; r < reports_.size(); ++r) {
    if (is_lost(reports_[r].standing)) ranks.push_back(static_cast<int>(r));
  }
  return ranks;
}

bool RollCall::has_orphans() const {
  return std::any_of(reports_.begin(), reports_.end(),
                     [](const RankReport& report) { return report.standing == Standing::kOrphan; });
}

int RollCall::first_alive() const {
  for (size_t r = 0; r < reports_.size(); ++r) {
    if (!is_lost(reports_[r].standing)) return static_cast<int>(r);
  }
  return static_cast<int>(rank_);
}

std::string RollCall::name_of(size_t rank) const {
  return concat("rank ", rank, " on host ", hosts_[rank]);
}

std::string RollCall::own_state() const {
  const ActivityState& mine = reports_[rank_].activity;
  return concat("rank ", rank_, " has ", mine.waits() ? "waited " : "computed ",
                seconds_text(mine.milliseconds), " in ", mine.where());
}

// How long a rank has been in what it was last heard to do.
int64_t RollCall::milliseconds_of(size_t rank, Time now) const {
  const int64_t reported = reports_[rank].activity.milliseconds;
  return rank == rank_ ? reported : reported + milliseconds(now - heard_[rank]);
}

std::string RollCall::describe_loss(int lost) const {
  const auto at = static_cast<size_t>(lost);
  const RankReport& report = reports_[at];
  if (at == rank_ && report.standing == Standing::kSilent) {
    return "the other ranks have given this one up: it did not answer for too long";
  }
  std::string how;
  if (report.standing == Standing::kSilent) {
    how = concat(" was last heard of ", seconds_text(report.code), " ago, in ");
  } else if (report.standing == Standing::kGone) {
    how = " is gone (its process ended), last seen in ";
  } else {
    how = " has lost its launcher (mpirun, or its daemon on that host, ended), last seen in ";
  }
  return concat(name_of(at), how, report.activity.where(), "; ", own_state());
}

std::string RollCall::describe_wait(Duration patience, Time now) const {
  std::vector<size_t> waiting;
  std::vector<size_t> absent;
  for (size_t r = 0; r < reports_.size(); ++r) {
    if (r != rank_ && now - heard_[r] > patience / 2) continue;
    (reports_[r].activity.waits() ? waiting : absent).push_back(r);
  }
  const auto patient = std::find_if(waiting.begin(), waiting.end(), [&](size_t r) {
    return milliseconds_of(r, now) >= milliseconds(patience);
  });
  if (absent.empty() || patient == waiting.end() || *patient != rank_) return "";
  const auto slowest = std::max_element(absent.begin(), absent.end(), [&](size_t a, size_t b) {
    return milliseconds_of(a, now) < milliseconds_of(b, now);
  });
  std::string others;
  if (absent.size() > 1) others = concat(" (", ranks_text(absent), " have not come)");
  return concat(name_of(*slowest), " has computed ", seconds_text(milliseconds_of(*slowest, now)),
                " in ", reports_[*slowest].activity.where(), others, " while ", ranks_text(waiting),
                waiting.size() == 1 ? " waits in " : " wait in ", reports_[rank_].activity.where());
}

std::string RollCall::describe_quiet(Duration silence, Time now, std::span<const int> alive) const {
  std::vector<size_t> quiet;
  for (size_t r = 0; r < reports_.size(); ++r) {
    if (r == rank_ || now - heard_[r] < silence) continue;
    if (std::find(alive.begin(), alive.end(), static_cast<int>(r)) == alive.end()) {
      quiet.push_back(r);
    }
  }
  std::stable_sort(quiet.begin(), quiet.end(),
                   [&](size_t a, size_t b) { return heard_[a] < heard_[b]; });
  std::string text;
  for (const size_t r : quiet) {
    text += concat(text.empty() ? "" : ", ", name_of(r), " (",
                   seconds_text(milliseconds(now - heard_[r])), " ago, in ",
                   reports_[r].activity.where(), ")");
  }
  return text;
}

}  // namespace halftone
