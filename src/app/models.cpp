#include <cstdio>
#include <set>

#include "app/commands.h"
#include "app/model_listing.h"
#include "app/run_setup.h"
#include "app/support_matrix.h"
#include "core/error.h"
#include "formats/low_bit_source.h"
#include "model/family.h"

namespace halftone {
namespace {

Options options() {
  Options options("halftone models [--model DIR] [--json]",
                  "Lists the supported model families, or what one makes of a checkpoint.");
  options.group("What");
  options.text("model", "DIR", "", "list this checkpoint's linears and other tensors instead");
  add_source_option(options);
  add_family_option(options);
  options.flag("markdown", "print the support matrix: published models by format");
  options.flag("json", "print one JSON object");
  return options;
}

Json family_json(const Family& family) {
  Json published = Json::array();
  std::set<std::string> kinds;
  std::set<std::string> sources;
  for (const PublishedModel& one : family.published) {
    published.push_back(one.name);
    const auto model = published_model(family, one);
    const std::string kind = kind_of(*model);
    kinds.insert(kind);
    const auto readable = source_methods(kind == "stacked experts");
    sources.insert(readable.begin(), readable.end());
  }
  return {{"name", family.name},
          {"architectures", family.architectures},
          {"description", family.description},
          {"published", published},
          {"kinds", kinds},
          {"low_bit_sources", sources},
          {"trtllm_decoder", family.trtllm_decoder.empty() ? Json() : Json(family.trtllm_decoder)}};
}

std::string joined(const Json& list) {
  std::string text;
  for (const Json& one : list) text += (text.empty() ? "" : ", ") + one.get<std::string>();
  return text;
}

void print_family(const Json& family) {
  std::printf("%s: %s\n", family["name"].get<std::string>().c_str(),
              family["description"].get<std::string>().c_str());
  for (const char* key : {"published", "architectures", "kinds", "low_bit_sources"}) {
    std::printf("  %-16s %s\n", key, joined(family[key]).c_str());
  }
  if (family["trtllm_decoder"].is_null()) return;
  std::printf("  %-16s %s\n", "trtllm_decoder",
              family["trtllm_decoder"].get<std::string>().c_str());
}

void list_checkpoint(const Options& options) {
  const Checkpoint checkpoint = open_source(options);
  const std::string wanted = options.get("family");
  const Family& family = wanted.empty() ? family_of(checkpoint) : family_named(wanted);
  const auto model = make_model(checkpoint, family.name);
  Json listing{{"family", family.name}, {"kind", kind_of(*model)}};
  listing.update(list_model(checkpoint, *model));
  if (options.get_flag("json")) {
    print_json(listing);
  } else {
    print_model_listing(listing);
  }
}

void list_families(bool json) {
  Json list = Json::array();
  for (const Family& family : families()) {
    list.push_back(family_json(family));
    if (!json) print_family(list.back());
  }
  if (json) print_json({{"families", list}});
}

void run(const Options& options, const World* /*world*/) {
  const bool checkpoint = !options.get("model").empty();
  if (options.given("family") && !checkpoint) throw UsageError("--family needs --model");
  if (options.get_flag("markdown")) {
    if (checkpoint || options.get_flag("json")) {
      throw UsageError("--markdown goes with neither --model nor --json");
    }
    std::printf("%s", support_matrix().c_str());
  } else if (checkpoint) {
    list_checkpoint(options);
  } else {
    list_families(options.get_flag("json"));
  }
}

}  // namespace

Command models_command() {
  return {"models", "supported model families, and what they make of a checkpoint", false, &options,
          &run};
}

}  // namespace halftone
