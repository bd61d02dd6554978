#pragma once

#include <memory>
#include <string>

#include "core/json.h"
#include "text/normalizer.h"

namespace halftone {

// The normalizers that follow Unicode's properties, as the registry in normalizer.cpp takes them.
std::unique_ptr<Normalizer> make_nfc(const Json& part, const std::string& source);
std::unique_ptr<Normalizer> make_nfd(const Json& part, const std::string& source);
std::unique_ptr<Normalizer> make_nfkc(const Json& part, const std::string& source);
std::unique_ptr<Normalizer> make_nfkd(const Json& part, const std::string& source);
std::unique_ptr<Normalizer> make_lowercase(const Json& part, const std::string& source);
std::unique_ptr<Normalizer> make_strip_accents(const Json& part, const std::string& source);
std::unique_ptr<Normalizer> make_nmt(const Json& part, const std::string& source);

}  // namespace halftone
