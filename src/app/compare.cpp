#include "evaluate/compare.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <thread>

#include "app/commands.h"
#include "app/run_setup.h"
#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

Options options() {
  Options options("halftone compare A B [options]",
                  "Compares two checkpoints tensor by tensor, or two calibration stores: exit code "
                  "6 if they differ.");
  options.group("What");
  options.text("a", "A", "", "a checkpoint folder or a .h5 store");
  options.text("b", "B", "", "what to compare it with");
  options.positional("a");
  options.positional("b");
  add_family_option(options);
  options.group("Run");
  options.integer_or_auto("threads", 1, 1024, "auto: as many as there are cores");
  options.flag("json", "print one JSON object to standard output and nothing else");
  return options;
}

bool is_store(const fs::path& path) {
  return path.extension() == ".h5" || path.extension() == ".hdf5";
}

int thread_count(const Options& options) {
  const int64_t wanted = options.get_integer("threads");
  if (wanted > 0) return static_cast<int>(wanted);
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

Comparison compare(const Options& options) {
  const fs::path a = options.required("a");
  const fs::path b = options.required("b");
  for (const fs::path& path : {a, b}) {
    std::error_code error;
    if (!fs::exists(path, error)) throw InputError(concat("'", path.string(), "' does not exist"));
  }
  if (is_store(a) != is_store(b)) {
    throw UsageError(concat("'", a.string(), "' and '", b.string(),
                            "' are of different kinds: give two checkpoints or two stores"));
  }
  if (is_store(a)) return compare_stores(StatisticsStore::open(a), StatisticsStore::open(b));
  ThreadPool pool(thread_count(options), [] { at::set_num_threads(1); });
  const Checkpoint left(a);
  const Checkpoint right(b);
  return compare_checkpoints(left, right, options.get("family"), pool);
}

std::string text_of(const Difference& difference) {
  std::string text =
      concat(difference.kind, " '", difference.name, "': ", difference.a, " | ", difference.b);
  if (difference.db) text += concat(" (", *difference.db, " dB)");
  return text;
}

void print_comparison(const Options& options, const Comparison& comparison) {
  const std::vector<Difference>& differences = comparison.differences;
  if (options.get_flag("json")) {
    Json json{{"ok", differences.empty()},
              {"problems", Json::array()},
              {"compared", comparison.compared},
              {"equal", comparison.equal}};
    for (const Difference& one : differences) {
      json["problems"].push_back({{"kind", one.kind},
                                  {"tensor", one.name},
                                  {"file", one.file},
                                  {"a", one.a},
                                  {"b", one.b},
                                  {"db", one.db ? Json(*one.db) : Json()},
                                  {"text", text_of(one)}});
    }
    print_json(json);
    return;
  }
  for (const Difference& one : differences) std::printf("%s\n", text_of(one).c_str());
  std::printf("%lld of %lld that both have are equal, %lld differences\n",
              static_cast<long long>(comparison.equal), static_cast<long long>(comparison.compared),
              static_cast<long long>(std::ssize(differences)));
}

void run(const Options& options, const World* /*world*/) {
  at::set_num_threads(1);
  const Comparison comparison = compare(options);
  print_comparison(options, comparison);
  std::fflush(stdout);
  if (comparison.differences.empty()) return;
  throw VerificationError(
      concat("'", options.get("a"), "' and '", options.get("b"),
             "' differ: ", comparison.differences.size(),
             " differences, the first: ", text_of(comparison.differences.front())));
}

}  // namespace

Command compare_command() {
  return {"compare", "two checkpoints or stores, tensor by tensor", false, &options, &run};
}

}  // namespace halftone
