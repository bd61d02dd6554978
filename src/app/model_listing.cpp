#include "app/model_listing.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "core/log.h"
#include "model/source_layout.h"

namespace halftone {
namespace {

const char* name_of_axis(ShardAxis axis) {
  switch (axis) {
    case ShardAxis::kOutput:
      return "output";
    case ShardAxis::kInput:
      return "input";
    case ShardAxis::kNone:
      break;
  }
  return "none";
}

// The dtype on disk, or the low-bit form that is dequantized while loading.
std::string stored_form(const StoredTensor& stored) {
  return stored.codec ? stored.codec->name() : name_of(stored.dtype);
}

Json text_or_null(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}

Json number_or_null(int number) {
  return number < 0 ? Json() : Json(number);
}

Json linear_json(const StageSpec& stage, const LinearSite& linear, const std::string& stored) {
  return {{"stage", stage.name},
          {"module", linear.name},
          {"shape", {linear.out, linear.in}},
          {"fused_group", number_or_null(linear.fused_group)},
          {"shard", name_of_axis(linear.shard)},
          {"expert", number_or_null(linear.expert)},
          {"stacked", text_or_null(linear.stacked)},
          {"trtllm", text_or_null(linear.trtllm)},
          {"stored", stored}};
}

Json list_linears(const SourceLayout& source, const Model& model) {
  Json list = Json::array();
  for (size_t s = 0; s < model.stages().size(); ++s) {
    const StageSpec& stage = model.stages()[s];
    std::map<std::string, const StoredTensor*> stored;
    for (size_t t = 0; t < stage.tensors.size(); ++t) {
      stored[stage.tensors[t].name] = &source.stages()[s][t];
    }
    for (const LinearSite& linear : stage.linears) {
      list.push_back(linear_json(stage, linear, stored_form(*stored.at(linear.weight))));
    }
  }
  return list;
}

Json list_attentions(const Model& model) {
  Json list = Json::array();
  for (const StageSpec& stage : model.stages()) {
    for (const AttentionSite& attention : stage.attentions) {
      list.push_back({{"stage", stage.name},
                      {"module", attention.name},
                      {"kv_heads", attention.kv_heads},
                      {"key_dim", attention.key_dim},
                      {"value_dim", attention.value_dim},
                      {"of_encoder", attention.of_encoder}});
    }
  }
  return list;
}

Json list_plain_modules(const Model& model) {
  Json list = Json::array();
  for (const StageSpec& stage : model.stages()) {
    for (const std::string& module : stage.plain_modules) {
      list.push_back({{"stage", stage.name}, {"module", module}});
    }
  }
  return list;
}

Json list_tied(const Checkpoint& checkpoint, const Model& model) {
  Json list = Json::array();
  for (const auto& [alias, canonical] : model.tied_tensors()) {
    list.push_back({{"tensor", alias}, {"to", canonical}, {"stored", checkpoint.has(alias)}});
  }
  return list;
}

// Why a tensor that no stage reads is in the checkpoint.
std::string why_extra(const Model& model, const std::string& name) {
  const auto begins_with_one_of = [&](const std::vector<std::string>& prefixes) {
    return std::any_of(prefixes.begin(), prefixes.end(),
                       [&](const std::string& prefix) { return name.starts_with(prefix); });
  };
  if (begins_with_one_of(model.next_token_prefixes())) return "next token";
  if (begins_with_one_of(model.carried_prefixes())) return "carried";
  for (const auto& [alias, canonical] : model.tied_tensors()) {
    if (alias == name) return "tied";
  }
  return "unknown";
}

Json list_extra(const SourceLayout& source, const Model& model) {
  Json list = Json::array();
  for (const StoredTensor& stored : source.extra()) {
    list.push_back({{"tensor", stored.name},
                    {"shape", stored.shape},
                    {"stored", stored_form(stored)},
                    {"why", why_extra(model, stored.name)}});
  }
  return list;
}

std::string text_of(const Json& value) {
  if (value.is_null()) return "-";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

Json list_model(const Checkpoint& checkpoint, const Model& model) {
  const SourceLayout source(checkpoint, model);
  return {{"linears", list_linears(source, model)},
          {"attentions", list_attentions(model)},
          {"tied", list_tied(checkpoint, model)},
          {"extra", list_extra(source, model)},
          {"never_quantized", list_plain_modules(model)}};
}

void print_model_listing(const Json& listing) {
  for (const auto& [title, entries] : listing.items()) {
    if (!entries.is_array()) {
      std::printf("%s %s\n", title.c_str(), text_of(entries).c_str());
      continue;
    }
    std::printf("%s: %zu\n", title.c_str(), entries.size());
    for (const Json& entry : entries) {
      std::string line;
      for (const auto& [key, value] : entry.items()) line += concat("  ", key, " ", text_of(value));
      std::printf("%s\n", line.c_str());
    }
  }
}

}  // namespace halftone
