#include <cstdio>

#include "app/commands.h"
#include "app/run_setup.h"
#include "model/family.h"

namespace halftone {
namespace {

Options options() {
  Options options("halftone models [--json]", "Lists the supported model families.");
  options.flag("json", "print one JSON object");
  return options;
}

void run(const Options& options, const World* /*world*/) {
  Json list = Json::array();
  for (const Family& family : families()) {
    list.push_back({{"name", family.name},
                    {"architectures", family.architectures},
                    {"description", family.description}});
    if (options.get_flag("json")) continue;
    std::printf("%-10s %s\n", family.name.c_str(), family.description.c_str());
    for (const std::string& architecture : family.architectures) {
      std::printf("%-10s   %s\n", "", architecture.c_str());
    }
  }
  if (options.get_flag("json")) print_json({{"families", list}});
}

}  // namespace

Command models_command() {
  return {"models", "supported model families", false, &options, &run};
}

}  // namespace halftone
