#pragma once

#include "core/json.h"

namespace halftone {

// A conversation as ChatTemplate::render takes it. InputError naming the message that is none, what
// was expected and found.
void check_messages(const Json& messages);
// Null, or a list of objects. InputError naming `what`.
void check_list_of_objects(const Json& value, const char* what);

}  // namespace halftone
