#pragma once

#include <stdexcept>
#include <string>

namespace halftone {

// Exit codes of the program (design.md, section 4).
enum class ExitCode : int {
  kDone = 0,
  kUsage = 2,
  kInput = 3,
  kResources = 4,
  kPeer = 5,
  kVerification = 6,
  kStopped = 75,
};

// A user's error. The text names the tensor or the file, what was expected and found, and the
// option to change; rank and phase are added where they are known.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& text);

  ExitCode code() const { return code_; }
  // The text behind "rank 2, calibrate layer 7: ".
  const char* what() const noexcept override { return message_.c_str(); }

  void set_rank(int rank);
  // The innermost phase stays: a second call does nothing.
  void set_phase(const std::string& phase);

 private:
  void compose();

  ExitCode code_;
  int rank_ = -1;
  std::string phase_;
  std::string message_;
};

struct UsageError : Error {
  explicit UsageError(const std::string& text) : Error(ExitCode::kUsage, text) {}
};
struct InputError : Error {
  explicit InputError(const std::string& text) : Error(ExitCode::kInput, text) {}
};
// The system could not read a file: unlike other bad input this may pass.
struct ReadError : InputError {
  using InputError::InputError;
};
struct ResourceError : Error {
  explicit ResourceError(const std::string& text) : Error(ExitCode::kResources, text) {}
};
struct PeerError : Error {
  explicit PeerError(const std::string& text) : Error(ExitCode::kPeer, text) {}
};
struct VerificationError : Error {
  explicit VerificationError(const std::string& text) : Error(ExitCode::kVerification, text) {}
};
struct StoppedError : Error {
  explicit StoppedError(const std::string& text) : Error(ExitCode::kStopped, text) {}
};

// The system's words for errno, e.g. "No space left on device".
std::string errno_text(int error_number);

}  // namespace halftone
