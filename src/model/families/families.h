#pragma once

#include "model/family.h"

namespace halftone {

// One function per file of this folder; family.cpp lists them.
Family deepseek_v3_family();
Family gemma3_family();
Family glm4_moe_family();
Family gpt_oss_family();
Family llama_family();
Family llama4_family();
Family mistral_family();
Family mixtral_family();
Family nemotron_nas_family();
Family phi3_family();
Family phimoe_family();
Family qwen2_family();
Family qwen2_moe_family();
Family qwen3_family();
Family qwen3_moe_family();
Family mt5_family();
Family t5_family();
Family whisper_family();

}  // namespace halftone
