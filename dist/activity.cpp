#include "dist/activity.h"

#include <algorithm>

#include "core/log.h"

namespace halftone {
namespace {

template <size_t N>
void store(std::array<char, N>& field, std::string_view text) {
  const size_t length = std::min(text.size(), N - 1);
  std::copy_n(text.begin(), length, field.begin());
}

// Whatever came over the network, the text ends within the field.
template <size_t N>
std::string_view text_of(const std::array<char, N>& field) {
  return {field.data(),
          static_cast<size_t>(std::find(field.begin(), field.end(), '\0') - field.begin())};
}

}  // namespace

std::string ActivityState::where() const {
  const std::string_view doing = waits() ? text_of(collective) : text_of(step);
  const std::string_view of = text_of(stage);
  if (doing.empty() && of.empty()) return "the start";
  if (doing.empty() || of.empty()) return std::string(doing.empty() ? of : doing);
  return concat(doing, " of ", of);
}

void Activity::begin_stage(std::string_view stage) {
  const std::scoped_lock lock(mutex_);
  stage_ = stage;
  step_.clear();
  computes_since_ = Clock::now();
}

void Activity::begin_step(std::string_view step) {
  const std::scoped_lock lock(mutex_);
  step_ = step;
  computes_since_ = Clock::now();
}

ActivityState Activity::now() const {
  const std::scoped_lock lock(mutex_);
  ActivityState state;
  store(state.stage, stage_);
  store(state.step, step_);
  if (!under_way_.empty()) store(state.collective, under_way_.front().name);
  state.collectives = collectives_;
  const Clock::time_point since = under_way_.empty() ? computes_since_ : under_way_.front().since;
  state.milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - since).count();
  return state;
}

Activity::Collective::Collective(Activity* activity, const char* name) : activity_(activity) {
  if (activity_ == nullptr) return;
  const std::scoped_lock lock(activity_->mutex_);
  number_ = ++activity_->collectives_;
  activity_->under_way_.push_back({number_, name, Clock::now()});
}

Activity::Collective::~Collective() {
  if (activity_ == nullptr) return;
  const std::scoped_lock lock(activity_->mutex_);
  std::erase_if(activity_->under_way_, [&](const UnderWay& one) { return one.number == number_; });
  activity_->computes_since_ = Clock::now();
}

}  // namespace halftone
