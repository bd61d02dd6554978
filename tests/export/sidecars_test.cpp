#include "export/sidecars.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

class SidecarsTest : public testing::Test {
 protected:
  SidecarsTest() {
    fs::create_directories(source());
    fs::create_directories(out());
    write_checkpoint(source(), tiny_config(), tiny_tensors(*tiny_model(tiny_config())));
  }
  fs::path source() const { return folder_.path() / "source"; }
  fs::path out() const { return folder_.path() / "out"; }
  void put(const std::string& name, std::string_view text) const {
    write_text_file(source() / name, text);
  }
  std::set<std::string> names() const {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(out())) all.insert(entry.path().filename());
    return all;
  }

  TemporaryFolder folder_;
};

TEST_F(SidecarsTest, EverythingThatIsNotWeights) {
  const std::set<std::string> copied{"tokenizer.json",     "tokenizer_config.json",
                                     "vocab.txt",          "merges.txt",
                                     "tokenizer.model",    "chat_template.jinja",
                                     "modeling_custom.py", "preprocessor_config.json",
                                     "README.md",          "LICENSE",
                                     "config.json.orig",   ".gitattributes"};
  for (const std::string& name : copied) put(name, "text of " + name + "\r\n");
  for (const char* name : {"old.safetensors",
                           "pytorch_model.bin",
                           "x.pt",
                           "x.pth",
                           "x.ckpt",
                           "x.gguf",
                           "tf_model.h5",
                           "flax.msgpack",
                           "x.onnx",
                           "x.npz",
                           "x.nemo",
                           "model.safetensors.index.json",
                           "pytorch_model.bin.index.json",
                           "hf_quant_config.json",
                           "quant_config.json",
                           "quantize_config.json",
                           "quantization_config.json",
                           "recipe.yaml",
                           "recipe.yml",
                           "summary.json"}) {
    put(name, "{}");
  }
  fs::create_directories(source() / "original");
  // As in a download cache, where files are links.
  write_text_file(folder_.path() / "blob", "behind a link");
  fs::create_symlink(folder_.path() / "blob", source() / "added_tokens.json");

  fs::remove(source() / "model.safetensors.index.json");
  copy_other_files(Checkpoint(source()), out());
  std::set<std::string> expected = copied;
  expected.insert("added_tokens.json");
  EXPECT_EQ(names(), expected);
  for (const std::string& name : copied) {
    EXPECT_EQ(read_text_file(out() / name), "text of " + name + "\r\n");
  }
  EXPECT_EQ(read_text_file(out() / "added_tokens.json"), "behind a link");
  EXPECT_FALSE(fs::is_symlink(out() / "added_tokens.json"));
}

TEST_F(SidecarsTest, GenerationConfig) {
  const auto written = [&](const std::string& text) {
    put("generation_config.json", text);
    copy_other_files(Checkpoint(source()), out());
    return read_text_file(out() / "generation_config.json");
  };
  for (const std::string as_it_is :
       {R"({ "eos_token_id":1 })", R"({"do_sample": true, "top_p": 0.9})",
        R"({"do_sample": false})", R"({"temperature": null})", "[]", "{not json"}) {
    EXPECT_EQ(written(as_it_is), as_it_is);
  }
  for (const std::string key : {"temperature", "top_p", "top_k"}) {
    for (const std::string before : {"", R"("do_sample": false, )", R"("do_sample": null, )"}) {
      const Json json = parse_json(written("{" + before + "\"" + key + "\": 1, \"z\": 2}"), "out");
      EXPECT_EQ(json["do_sample"], true);
      EXPECT_EQ(json[key], 1);
      EXPECT_EQ(json["z"], 2);
    }
  }
}

TEST_F(SidecarsTest, Configs) {
  Json config = tiny_config();
  config["quantization_config"] = {{"quant_method", "old"}};
  config["auto_map"] = {{"AutoModel", "modeling.X"}};
  write_text_file(source() / "config.json", config.dump());
  write_configs(Checkpoint(source()), {{{"a", 1}}, {{"quant_method", "modelopt"}}}, out());
  Json expected = config;
  expected.erase("quantization_config");
  expected["quantization_config"] = {{"quant_method", "modelopt"}};
  EXPECT_EQ(read_text_file(out() / "config.json"), expected.dump(4) + "\n");
  EXPECT_EQ(read_text_file(out() / "hf_quant_config.json"), "{\n    \"a\": 1\n}\n");
}

TEST_F(SidecarsTest, Index) {
  HfLayout layout;
  layout.total_bytes = 30;
  layout.total_elements = 12;
  layout.files = {{"a.safetensors", {}}};
  layout.file_of = {{"x", 0}};
  write_index(layout, out());
  EXPECT_TRUE(names().empty()) << "one file needs no index";
  layout.files.push_back({"b.safetensors", {}});
  layout.file_of["w"] = 1;
  write_index(layout, out());
  EXPECT_EQ(read_text_file(out() / "model.safetensors.index.json"),
            "{\n  \"metadata\": {\n    \"total_parameters\": 12,\n    \"total_size\": 30\n  },\n"
            "  \"weight_map\": {\n    \"w\": \"b.safetensors\",\n    \"x\": \"a.safetensors\"\n"
            "  }\n}\n");
}

}  // namespace
}  // namespace halftone::test
