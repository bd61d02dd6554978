#include <cstdio>

#include "app/commands.h"
#include "app/run_setup.h"
#include "formats/recipe.h"

namespace halftone {
namespace {

Options options() {
  Options options("halftone formats [--json]", "Lists the weight and KV cache formats.");
  options.flag("json", "print one JSON object");
  return options;
}

Json describe(const std::vector<Recipe>& presets) {
  Json list = Json::array();
  for (const Recipe& preset : presets) {
    list.push_back(
        {{"name", preset.name}, {"preset", preset.preset}, {"description", preset.description}});
  }
  return list;
}

void print(const char* title, const std::vector<Recipe>& presets) {
  std::printf("%s\n", title);
  for (const Recipe& preset : presets) {
    std::printf("  %-24s %-34s %s\n", preset.name.c_str(), preset.preset.c_str(),
                preset.description.c_str());
  }
}

void run(const Options& options, const World* /*world*/) {
  const std::vector<Recipe> formats = all_presets("ptq");
  const std::vector<Recipe> caches = all_presets("kv_cache");
  if (options.get_flag("json")) {
    print_json({{"formats", describe(formats)},
                {"kv_cache", describe(caches)},
                {"recipes", recipe_names()}});
    return;
  }
  print("Formats (--format; the second name is Model Optimizer's, both are accepted)", formats);
  print("KV cache formats (--kv-cache; none is the default)", caches);
  std::printf("Recipes (--recipe)\n");
  for (const std::string& name : recipe_names()) std::printf("  %s\n", name.c_str());
}

}  // namespace

Command formats_command() {
  return {"formats", "what --format and --kv-cache take", false, &options, &run};
}

}  // namespace halftone
