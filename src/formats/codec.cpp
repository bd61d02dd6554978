#include "formats/codec.h"

#include "core/error.h"
#include "core/log.h"
#include "formats/codecs.h"

namespace halftone {

const std::vector<const Codec*>& codecs() {
  static const std::vector<const Codec*> list{
      &fp8_codec(),
      &nvfp4_codec(),
      &int8_weight_only_codec(),
  };
  return list;
}

const Codec* codec_for(const LinearQuantizers& quantizers, const std::string& module) {
  if (!quantizers.weight.enabled()) return nullptr;
  for (const Codec* codec : codecs()) {
    if (codec->matches(quantizers)) return codec;
  }
  std::string known;
  for (const Codec* codec : codecs()) known += (known.empty() ? "" : ", ") + codec->name();
  throw UsageError(concat("the recipe gives '", module,
                          "' a combination of weight and input quantizers that no format stores; "
                          "formats: ",
                          known));
}

const Codec* codec_for_algo(const std::string& quant_algo) {
  for (const Codec* codec : codecs()) {
    if (codec->algo().name == quant_algo) return codec;
  }
  return nullptr;
}

}  // namespace halftone
