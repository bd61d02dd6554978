#pragma once

#include <atomic>
#include <memory>

namespace halftone {

class World;

// Meetings of all ranks beside other work: waiting takes next to nothing of a core, and a rank can
// give up. Needs an MPI whose threads talk side by side (World::threads_talk).
class Rendezvous {
 public:
  // Collective.
  explicit Rendezvous(const World& world);
  ~Rendezvous();
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  // Returns true when all ranks have come; false, and then the ranks can never meet again, when
  // they had not a second after `given_up` became true: those that give up together, each having
  // come, still meet. Any thread, one at a time.
  bool meet(const std::atomic<bool>& given_up);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halftone
