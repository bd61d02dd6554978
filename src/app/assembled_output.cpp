#include "app/assembled_output.h"

#include "app/quantize_run.h"
#include "core/log.h"

namespace halftone {
namespace {

Json made_of(Json layout, const std::string& unified_digest) {
  layout["unified_digest"] = unified_digest;
  return layout;
}

}  // namespace

fs::path published_folder(const fs::path& assembly, const fs::path& out,
                          const QuantizeResult::Output& output) {
  return without_trailing_slash((out / output.dir.lexically_relative(assembly)).string());
}

bool is_made_of(const fs::path& assembly, const fs::path& out, const Json& layout,
                const QuantizeResult& result) {
  for (const QuantizeResult::Output& output : result.outputs) {
    const fs::path summary = published_folder(assembly, out, output) / "summary.json";
    if (!fs::exists(summary)) return false;
    const Json found = read_json_file(summary);
    if (found.value("layout", Json()) != made_of(layout, output.digest)) return false;
  }
  return true;
}

void describe_published(const fs::path& assembly, const fs::path& out, QuantizeResult& result) {
  for (QuantizeResult::Output& output : result.outputs) {
    output.dir = published_folder(assembly, out, output);
    if (!fs::exists(output.dir / "summary.json")) continue;  // not seen yet by another host
    const Json summary = read_json_file(output.dir / "summary.json");
    output.digest = summary.value("digest", "");
    output.bytes = summary.value("bytes", int64_t{0});
  }
}

void write_layout_summary(const fs::path& unified, const std::string& unified_digest,
                          const Json& layout, const QuantizeResult::Output& output,
                          const fs::path& folder) {
  Json summary = read_json_file(unified / "summary.json");
  summary["dir"] = output.dir.string();
  summary["digest"] = output.digest;
  summary["bytes"] = output.bytes;
  summary["layout"] = made_of(layout, unified_digest);
  write_text_file(folder / "summary.json", summary.dump(2) + "\n");
  sync_directory(folder);
}

void discard_folder(const fs::path& folder, const Communicator& ranks) {
  if (ranks.rank() != 0) return;
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) log_warn("cannot remove '", folder.string(), "': ", error.message());
}

}  // namespace halftone
