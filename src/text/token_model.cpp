#include "text/token_model.h"

#include "core/log.h"
#include "text/bpe.h"
#include "text/json_shape.h"
#include "text/unigram.h"

namespace halftone {

std::unique_ptr<TokenModel> make_token_model(const Json& part, const std::string& source) {
  const std::string place = source + ", model";
  expect_object(part, place);
  // Old files leave the type out.
  const auto type = json_member_or<std::string>(part, "type", "BPE", place);
  if (type == "BPE") return std::make_unique<Bpe>(part, place);
  if (type == "Unigram") return std::make_unique<Unigram>(part, place);
  refuse_part(place, concat("type '", type, "'"), "BPE, Unigram");
}

}  // namespace halftone
