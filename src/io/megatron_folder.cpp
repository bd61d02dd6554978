#include <algorithm>
#include <cstdio>
#include <system_error>

#include "core/error.h"
#include "core/log.h"
#include "io/megatron_checkpoint.h"
#include "io/shown_name.h"

namespace halftone {
namespace {

constexpr const char* kMetadataFile = ".metadata";
constexpr const char* kLatestFile = "latest_checkpointed_iteration.txt";

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

std::optional<fs::path> if_there(const fs::path& path) {
  return is_there(path) ? std::optional(path) : std::nullopt;
}

// What the file of the latest iteration says: "100" -> "iter_0000100", or "release".
fs::path latest_iteration(const fs::path& directory) {
  const fs::path file = directory / kLatestFile;
  std::string text = read_text_file(file, 1024);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) {
    text.pop_back();
  }
  const bool number =
      !text.empty() && text.size() <= 12 &&
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!number && text != "release") {
    throw InputError(concat("'", file.string(), "': expected the number of an iteration or ",
                            "'release', found ", shown_name(text)));
  }
  if (!number) return directory / text;
  char name[32];
  std::snprintf(name, sizeof name, "iter_%07lld", std::stoll(text));
  return directory / name;
}

}  // namespace

std::optional<MegatronFolder> find_megatron(const fs::path& directory) {
  MegatronFolder folder;
  if (is_there(directory / kMetadataFile)) {
    folder.weights = directory;
  } else if (is_there(directory / "weights" / kMetadataFile)) {
    folder.weights = directory / "weights";
  } else if (is_there(directory / kLatestFile)) {
    folder.weights = latest_iteration(directory);
    if (!is_there(folder.weights / kMetadataFile)) {
      throw InputError(concat("'", folder.weights.string(), "', which ", kLatestFile,
                              " names, holds no ", kMetadataFile,
                              ": only checkpoints of the format torch_dist are read"));
    }
  } else {
    return std::nullopt;
  }
  const fs::path plain = (folder.weights / "").parent_path();
  const fs::path context = plain.parent_path() / "context";
  if (plain.filename() == "weights" && is_there(context)) {
    folder.model_yaml = if_there(context / "model.yaml");
    folder.tokenizer = if_there(context / "nemo_tokenizer");
  }
  if (!folder.tokenizer) folder.tokenizer = if_there(plain / "tokenizer");
  folder.run_config = if_there(plain / "run_config.yaml");
  folder.common = if_there(plain / "common.pt");
  return folder;
}

}  // namespace halftone
