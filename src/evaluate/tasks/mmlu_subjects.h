#pragma once

#include <string_view>

namespace halftone {

// Where MMLU's authors put a subject.
struct MmluSubject {
  const char* name;
  const char* subcategory;
  const char* category;
};

// Null for a subject that is none of the published 57.
const MmluSubject* mmlu_subject(std::string_view name);

}  // namespace halftone
