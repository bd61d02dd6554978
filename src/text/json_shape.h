#pragma once

#include <optional>
#include <string>

#include "core/error.h"
#include "core/json.h"
#include "text/tokenizer.h"

namespace halftone {

// Ids beyond this come from a damaged file: no published vocabulary reaches a tenth of it.
constexpr int64_t kMaxTokenId = int64_t{1} << 24;

// The member `key` of `object`, which must be there and of the type; InputError naming `source`.
const Json& object_member(const Json& object, const char* key, const std::string& source);
const Json& array_member(const Json& object, const char* key, const std::string& source);
void expect_object(const Json& value, const std::string& source);

// The "type" of a part of tokenizer.json; "null" where the part is null.
std::string part_type(const Json& part, const std::string& source);
// An id from 0 to kMaxTokenId, or nothing.
std::optional<TokenId> try_token_id(const Json& value);
InputError bad_token_id(const Json& value, const std::string& source);
TokenId token_id(const Json& value, const std::string& source);

[[noreturn]] void refuse_part(const std::string& source, const std::string& found,
                              const std::string& supported);

}  // namespace halftone
