#pragma once

#include <memory>
#include <span>
#include <vector>

#include "dist/roll_call.h"

namespace halftone {

class World;

// Sends lists of reports to a few other ranks and receives theirs, over MPI, without waiting
// for them. Used by one thread, beside another that talks on other communicators.
class ReportExchange {
 public:
  // Collective.
  explicit ReportExchange(const World& world);
  ~ReportExchange();
  ReportExchange(const ReportExchange&) = delete;
  ReportExchange& operator=(const ReportExchange&) = delete;

  // To every neighbour that has taken the list before; the others get the newest one later.
  void send(std::span<const RankReport> reports);
  // As send(), and nothing after it: the neighbours stop listening for this rank.
  void send_last(std::span<const RankReport> reports);
  // Moves what is under way; the lists that have come.
  std::vector<std::vector<RankReport>> progress();
  // Whether all that was to be sent is on its way.
  bool idle() const;
  // Whether the last lists have come and gone, both ways.
  bool finished() const;

 private:
  class Messages;
  std::unique_ptr<Messages> messages_;
};

}  // namespace halftone
