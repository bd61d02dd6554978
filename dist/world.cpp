#include "dist/world.h"

#include <mpi.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>

#include "core/error.h"
#include "core/log.h"
#include "dist/mpi_error.h"
#include "dist/watchdog.h"

namespace halftone {
namespace {

bool is_set(const char* variable) {
  return std::getenv(variable) != nullptr;
}

bool is_started_by_mpirun() {
  return is_set("OMPI_COMM_WORLD_SIZE");
}

// Open MPI ends a process without a word when the daemon that started it is gone. That comes so
// many seconds later now, for the watchdog to tell the other ranks. Read from the environment only.
void keep_time_for_last_words() {
  constexpr int kKeepTheUsers = 0;
  setenv("OMPI_MCA_opal_abort_delay", "2", kKeepTheUsers);  // NOLINT(concurrency-mt-unsafe)
}

// Starting MPI without a launcher costs Open MPI half a second, a daemon and an ssh on the PATH, so
// a program that nobody launched does without MPI.
bool has_launcher() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"}) {
    if (is_set(variable)) return true;
  }
  // A batch script has a SLURM_PROCID too; only what srun starts has a step.
  return is_set("SLURM_PROCID") && (is_set("SLURM_STEP_ID") || is_set("SLURM_STEPID"));
}

std::string host_name() {
  std::array<char, 256> name{};
  const bool found = gethostname(name.data(), name.size() - 1) == 0;
  return found && name[0] != '\0' ? name.data() : "unknown";
}

// The ranks that share this rank's memory.
class LocalRanks {
 public:
  LocalRanks(int rank, const std::string& host) {
    require_mpi(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &handle_),
        "finding the ranks of a host", rank, host);
  }
  ~LocalRanks() { MPI_Comm_free(&handle_); }
  LocalRanks(const LocalRanks&) = delete;
  LocalRanks& operator=(const LocalRanks&) = delete;

  MPI_Comm handle() const { return handle_; }

 private:
  MPI_Comm handle_ = MPI_COMM_NULL;
};

// leaders[r] is the first rank on rank r's host; turns them into numbers from 0, and returns how
// many.
int number_hosts(const std::vector<int>& leaders, std::vector<int>& node_of) {
  int nodes = 0;
  for (size_t r = 0; r < leaders.size(); ++r) {
    const auto leader = static_cast<size_t>(leaders[r]);
    node_of[r] = leader == r ? nodes++ : node_of[leader];
  }
  return nodes;
}

}  // namespace

World::World(int* argc, char*** argv) : node_of_(1, 0), host_(host_name()) {
  if (!has_launcher()) return;
  // Open MPI writes to sockets whose other end may be gone: that is an error to report.
  std::signal(SIGPIPE, SIG_IGN);
  if (is_started_by_mpirun()) keep_time_for_last_words();
  int provided = MPI_THREAD_SINGLE;
  require_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided), "starting MPI", rank_,
              host_);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  if (provided < MPI_THREAD_SERIALIZED) {
    throw PeerError(
        concat("this MPI lets only its first thread communicate (rank ", rank_, ", host ", host_,
               "): halftone needs one built with thread support (MPI_THREAD_SERIALIZED)"));
  }
  threads_talk_ = provided >= MPI_THREAD_MULTIPLE;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);

  const LocalRanks local(rank_, host_);
  MPI_Comm_rank(local.handle(), &local_rank_);
  MPI_Comm_size(local.handle(), &local_size_);
  // The split kept the order, so local rank 0 is its host's first rank. Hosts are told apart by it
  // and not by their names, which containers may share.
  int leader = rank_;
  require_mpi(MPI_Bcast(&leader, 1, MPI_INT, 0, local.handle()), "numbering the hosts", rank_,
              host_);
  std::vector<int> leaders(static_cast<size_t>(size_));
  require_mpi(MPI_Allgather(&leader, 1, MPI_INT, leaders.data(), 1, MPI_INT, MPI_COMM_WORLD),
              "numbering the hosts", rank_, host_);
  node_of_.assign(static_cast<size_t>(size_), 0);
  nodes_ = number_hosts(leaders, node_of_);
}

World::~World() {
  if (watchdog_ && std::uncaught_exceptions() == 0) watchdog_->finish();
  watchdog_.reset();
  int started = 0;
  int finished = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&finished);
  if (started != 0 && finished == 0) MPI_Finalize();
  if (last_ && std::uncaught_exceptions() == 0) last_();
}

void World::start_watchdog(std::chrono::milliseconds limit) const {
  if (size_ == 1) return;
  if (!threads_talk_ && rank_ == 0) {
    log_warn("this MPI does not let threads talk side by side (MPI_THREAD_MULTIPLE): the watchdog ",
             "sees only lost processes of the same host");
  }
  watchdog_ = std::make_unique<Watchdog>(*this, WatchdogOptions{limit, threads_talk_});
}

void World::abort(int exit_code) const {
  if (size_ == 1) return;
  if (watchdog_) watchdog_->announce_failure(exit_code);
  end_all(exit_code);
}

// mpirun ends all ranks when one of them ends with an error. Other launchers may not, and are asked
// to; MPI_Abort may wait for a daemon that is gone.
void World::end_all(int exit_code) const {
  if (is_started_by_mpirun()) std::_Exit(exit_code);
  constexpr std::chrono::seconds kPatience{3};
  std::thread([exit_code] { MPI_Abort(MPI_COMM_WORLD, exit_code); }).detach();
  std::this_thread::sleep_for(kPatience);
  std::_Exit(exit_code);
}

}  // namespace halftone
