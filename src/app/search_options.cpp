#include "app/search_options.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "engine/batch_pass.h"

namespace halftone {
namespace {

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (end > begin) parts.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Restriction restriction_of(const std::string& text) {
  const size_t equals = text.rfind('=');
  Restriction restriction;
  if (equals != std::string::npos) {
    restriction = {text.substr(0, equals), split(text.substr(equals + 1))};
  }
  if (restriction.pattern.empty() || restriction.formats.empty()) {
    throw UsageError(concat("--restrict: expected PATTERN=FORMAT[,FORMAT], found '", text, "'"));
  }
  return restriction;
}

}  // namespace

void add_search_options(Options& options) {
  options.text("formats", "NAME,NAME[,none]", "",
               "formats to choose from; none: linears may stay as they are");
  options.text("bits", "B[,B]", "", "mean bits of a weight, as Model Optimizer counts them");
  options.text("decisions", "FILE.json", "",
               "write these instead of searching for --bits: as OUT.frontier.json lists them");
  options.text("kv-cache", "NAME", "none", "KV cache format (halftone formats lists them)");
  options.paths("disable", "patterns of linears that stay as they are");
  options.paths("restrict", "PATTERN=FORMAT[,FORMAT]: what linears of such names may become");
  options.choice("cost", {"weight", "active-moe"}, "weight",
                 "what bits are the mean over: weights, or those that a token meets");
  options.number("active-ratio", 0.0, 0.0, 1.0,
                 "share of the experts that a token meets; 0: as the model routes");
  options.paths("cost-exclude", "patterns of linears that --bits does not count");
  options.group("Scores");
  options.choice("score", {"gradient", "fisher", "kl"}, "gradient",
                 "gradient: as Model Optimizer; fisher: what a sequence's loss feels of all "
                 "elements together; kl: measured, one forward pass for each choice");
  options.choice("loss", {"labels", "logits"}, "labels",
                 "of gradient: against the data's next tokens, or tokens the model itself draws");
  options.integer("score-samples", 128, 1, 100'000'000,
                  "score with about the first N calibration samples (whole batches)");
}

SearchOptions search_options(const Options& options) {
  SearchOptions search;
  search.formats = split(options.required("formats"));
  search.disabled = options.get_paths("disable");
  for (const std::string& text : options.get_paths("restrict")) {
    search.restrictions.push_back(restriction_of(text));
  }
  search.uncounted = options.get_paths("cost-exclude");
  search.cost = options.get("cost") == "active-moe" ? CostModel::kActiveMoe : CostModel::kWeight;
  search.active_ratio = options.get_number("active-ratio");
  if (search.active_ratio > 0.0 && search.cost != CostModel::kActiveMoe) {
    throw UsageError("--active-ratio needs --cost active-moe");
  }
  return search;
}

std::vector<double> bits_budgets(const Options& options) {
  std::vector<double> budgets;
  for (const std::string& text : split(options.required("bits"))) {
    double bits = 0.0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bits);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(bits) ||
        bits <= 0.0 || bits > 16.0) {
      throw UsageError(concat("--bits: expected numbers from 0 to 16, found '", text, "'"));
    }
    if (std::find(budgets.begin(), budgets.end(), bits) != budgets.end()) {
      throw UsageError(concat("--bits names ", text, " twice"));
    }
    budgets.push_back(bits);
  }
  if (budgets.empty()) throw UsageError("--bits names no number");
  return budgets;
}

ScoreMethod score_method(const Options& options) {
  const std::string& name = options.get("score");
  if (name == "kl") return ScoreMethod::kKl;
  return name == "fisher" ? ScoreMethod::kFisher : ScoreMethod::kGradient;
}

LossLabels loss_labels(const Options& options) {
  const ScoreMethod method = score_method(options);
  if (options.given("loss") && method != ScoreMethod::kGradient) {
    throw UsageError(concat("--loss is for --score gradient; ", name_of(method),
                            " compares the model with itself: leave it out"));
  }
  return options.get("loss") == "logits" || method == ScoreMethod::kFisher ? LossLabels::kModel
                                                                           : LossLabels::kData;
}

int64_t score_batches(const Options& options, const std::vector<Batch>& batches) {
  const int64_t rows = batches.empty() ? 1 : batches.front().rows;
  return std::clamp<int64_t>(options.get_integer("score-samples") / rows, 1, std::ssize(batches));
}

void check_labels(const Options& options, const std::vector<Batch>& batches, int64_t count) {
  for (int64_t b = 0; b < count; ++b) {
    const BatchContext context = context_of_batch(batches[static_cast<size_t>(b)]);
    if (predicted_tokens(context, options.get_flag("count-padding")) == 0) {
      throw InputError(concat("calibration batch ", b,
                              " has no label: none of its samples has two ",
                              "tokens, so that there is nothing to predict; give longer --calib ",
                              "samples, or a larger --calib-length"));
    }
  }
}

}  // namespace halftone
