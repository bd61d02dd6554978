#include "dist/report_exchange.h"

#include <mpi.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <type_traits>

#include "dist/mpi_error.h"
#include "dist/world.h"
#include "kernels/check.h"

namespace halftone {
namespace {

constexpr int kReports = 0;
constexpr int kLastReports = 1;

}  // namespace

// The analyzer looks for waits; these requests are tested.
// NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker)
class ReportExchange::Messages {
 public:
  explicit Messages(const World& world) : ranks_(static_cast<size_t>(world.size())) {
    require_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &handle_), "making the watchdog's communicator",
                world.rank(), world.host());
    MPI_Comm_set_errhandler(handle_, MPI_ERRORS_RETURN);
    // Both ways: the ranks of a host must hear of each other when the ones behind them are cut off.
    std::set<int> peers;
    for (int distance = 1; distance < world.size(); distance *= 2) {
      peers.insert((world.rank() + distance) % world.size());
      peers.insert((world.rank() + world.size() - distance) % world.size());
    }
    for (const int peer : peers) {
      receivers_.emplace_back(peer);
      senders_.emplace_back(peer, ranks_);
    }
    for (Sender& sender : senders_) listen(sender);
  }
  // A process that ends in an error leaves its messages to the system.
  ~Messages() {
    if (finished()) MPI_Comm_free(&handle_);
  }
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;

  void send(std::span<const RankReport> reports, bool last) {
    for (Receiver& receiver : receivers_) {
      receiver.waiting.assign(reports.begin(), reports.end());
      receiver.last = receiver.last || last;
      start_if_free(receiver);
    }
  }

  std::vector<std::vector<RankReport>> progress() {
    for (Receiver& receiver : receivers_) start_if_free(receiver);
    std::vector<std::vector<RankReport>> lists;
    for (Sender& sender : senders_) receive(sender, lists);
    return lists;
  }

  bool idle() {
    return std::all_of(receivers_.begin(), receivers_.end(), [](Receiver& receiver) {
      return receiver.waiting.empty() && is_over(receiver.request);
    });
  }

  bool finished() {
    const bool heard = std::all_of(senders_.begin(), senders_.end(),
                                   [](const Sender& sender) { return sender.last; });
    return heard && idle() &&
           std::all_of(receivers_.begin(), receivers_.end(),
                       [](const Receiver& receiver) { return receiver.last; });
  }

 private:
  struct Receiver {
    explicit Receiver(int of) : rank(of) {}
    int rank;
    MPI_Request request = MPI_REQUEST_NULL;
    std::vector<RankReport> travelling;
    std::vector<RankReport> waiting;  // empty: nothing to send
    bool last = false;                // nothing follows
    bool broken = false;
  };
  struct Sender {
    Sender(int of, size_t ranks) : rank(of), reports(ranks) {}
    int rank;
    MPI_Request request = MPI_REQUEST_NULL;
    std::vector<RankReport> reports;
    bool last = false;  // the last list has come
  };

  static bool is_over(MPI_Request& request) {
    int over = 1;
    // A request that failed is over too; who is gone shows by its silence.
    if (request != MPI_REQUEST_NULL &&
        MPI_Test(&request, &over, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
      request = MPI_REQUEST_NULL;
      return true;
    }
    return over != 0;
  }

  int bytes() const { return static_cast<int>(ranks_ * sizeof(RankReport)); }

  void start_if_free(Receiver& receiver) {
    if (receiver.waiting.empty() || receiver.broken || !is_over(receiver.request)) return;
    receiver.travelling.swap(receiver.waiting);
    receiver.waiting.clear();
    receiver.broken = MPI_Isend(receiver.travelling.data(), bytes(), MPI_BYTE, receiver.rank,
                                receiver.last ? kLastReports : kReports, handle_,
                                &receiver.request) != MPI_SUCCESS;
  }

  void listen(Sender& sender) {
    // A neighbour that cannot be listened to shows by its silence.
    if (MPI_Irecv(sender.reports.data(), bytes(), MPI_BYTE, sender.rank, MPI_ANY_TAG, handle_,
                  &sender.request) != MPI_SUCCESS) {
      sender.request = MPI_REQUEST_NULL;
    }
  }

  void receive(Sender& sender, std::vector<std::vector<RankReport>>& lists) {
    while (sender.request != MPI_REQUEST_NULL) {
      int over = 0;
      MPI_Status status{};
      if (MPI_Test(&sender.request, &over, &status) != MPI_SUCCESS) {
        sender.request = MPI_REQUEST_NULL;
        break;
      }
      if (over == 0) break;
      lists.push_back(sender.reports);
      sender.last = status.MPI_TAG == kLastReports;
      if (!sender.last) listen(sender);
    }
  }

  size_t ranks_;
  MPI_Comm handle_ = MPI_COMM_NULL;
  std::vector<Receiver> receivers_;
  std::vector<Sender> senders_;
};
// NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker)

static_assert(std::is_trivially_copyable_v<RankReport>, "reports travel as they are");

ReportExchange::ReportExchange(const World& world) : messages_(std::make_unique<Messages>(world)) {}
ReportExchange::~ReportExchange() = default;

void ReportExchange::send(std::span<const RankReport> reports) {
  messages_->send(reports, false);
}
void ReportExchange::send_last(std::span<const RankReport> reports) {
  messages_->send(reports, true);
}
std::vector<std::vector<RankReport>> ReportExchange::progress() {
  return messages_->progress();
}
bool ReportExchange::idle() const {
  return messages_->idle();
}
bool ReportExchange::finished() const {
  return messages_->finished();
}

}  // namespace halftone
