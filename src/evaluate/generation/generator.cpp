#include "evaluate/generation/generator.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

class Generation {
 public:
  Generation(PlacedModel& model, const std::vector<GenerationRequest>& requests,
             const GenerationOptions& options)
      : model_(model), batch_(model), requests_(requests), options_(options) {
    results_.resize(requests.size());
  }

  std::vector<Generated> run() {
    while (next_ < requests_.size() || batch_.rows() > 0) {
      admit();
      if (batch_.rows() > 0) step();
    }
    return std::move(results_);
  }

 private:
  // Fills the free rows with the next requests, whose first tokens come with it.
  void admit() {
    std::vector<std::vector<int64_t>> prompts;
    std::vector<size_t> admitted;
    while (next_ < requests_.size() && batch_.rows() + std::ssize(prompts) < options_.rows) {
      prompts.push_back(requests_[next_].prompt);
      admitted.push_back(next_++);
    }
    if (prompts.empty()) return;
    const at::Tensor logits_BV = batch_.add(prompts);
    requests_of_rows_.insert(requests_of_rows_.end(), admitted.begin(), admitted.end());
    take(logits_BV, static_cast<int64_t>(requests_of_rows_.size()) - std::ssize(admitted));
  }

  void step() {
    std::vector<int64_t> ids;
    for (size_t request : requests_of_rows_) ids.push_back(results_[request].tokens.back());
    take(batch_.step(ids), 0);
  }

  // Draws the tokens of the rows from `first` on and lets go of the rows that end with them.
  void take(const at::Tensor& logits_BV, int64_t first) {
    std::vector<int64_t> stay;
    std::vector<size_t> still;
    for (int64_t row = 0; row < std::ssize(requests_of_rows_); ++row) {
      const size_t request = requests_of_rows_[static_cast<size_t>(row)];
      if (row >= first && ends(request, logits_BV[row - first])) continue;
      stay.push_back(row);
      still.push_back(request);
    }
    batch_.keep(stay);
    requests_of_rows_ = std::move(still);
  }

  bool ends(size_t request, const at::Tensor& logits_V) {
    const GenerationRequest& wanted = requests_[request];
    Generated& result = results_[request];
    const std::span<const float> logits(logits_V.const_data_ptr<float>(),
                                        static_cast<size_t>(logits_V.numel()));
    const int64_t id = sample(logits, wanted.sampling, request, result.tokens.size());
    result.tokens.push_back(id);
    const std::vector<int64_t>& stops = options_.stop_ids;
    if (std::find(stops.begin(), stops.end(), id) != stops.end() ||
        (options_.complete && options_.complete(request, result.tokens))) {
      result.reason = FinishReason::kStop;
    } else if (std::ssize(result.tokens) < wanted.max_tokens &&
               std::ssize(wanted.prompt) + std::ssize(result.tokens) < model_.length()) {
      return false;
    }
    if (options_.done) options_.done(request, result);
    return true;
  }

  PlacedModel& model_;
  DecodingBatch batch_;
  const std::vector<GenerationRequest>& requests_;
  const GenerationOptions& options_;
  std::vector<Generated> results_;
  std::vector<size_t> requests_of_rows_;
  size_t next_ = 0;
};

}  // namespace

const char* name_of(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : "length";
}

std::vector<int64_t> stop_ids_of(const Checkpoint& checkpoint, int64_t vocabulary) {
  const fs::path folder = checkpoint.files().value_or(checkpoint.directory());
  const fs::path generation = folder / "generation_config.json";
  Json ids;
  std::string source = generation.string();
  if (fs::exists(generation)) {
    const Json config = read_json_file(generation);
    if (config.is_object() && config.contains("eos_token_id")) ids = config["eos_token_id"];
  }
  if (ids.is_null()) {
    source = folder / "config.json";
    const Json& config = checkpoint.config();
    const Json& text = config.contains("text_config") ? config["text_config"] : config;
    for (const Json* from : {&text, &config}) {
      if (ids.is_null() && from->contains("eos_token_id")) ids = (*from)["eos_token_id"];
    }
  }
  if (ids.is_null()) return {};
  std::vector<int64_t> stops;
  for (const Json& id : ids.is_array() ? ids : Json::array({ids})) {
    if (!id.is_number_integer() || id < 0 || id >= vocabulary) {
      throw InputError(concat("'", source, "': eos_token_id holds ", id.dump().substr(0, 40),
                              "; expected ids below ", vocabulary));
    }
    stops.push_back(id.get<int64_t>());
  }
  return stops;
}

std::vector<Generated> generate(PlacedModel& model, const std::vector<GenerationRequest>& requests,
                                const GenerationOptions& options) {
  return Generation(model, requests, options).run();
}

}  // namespace halftone
