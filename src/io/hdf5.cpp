#include "io/hdf5.h"

#include <exception>

namespace halftone::hdf5 {
namespace {

// Called by HDF5: exceptions must not pass through it.
herr_t keep_first(unsigned /*depth*/, const H5E_error2_t* error, void* data) {
  try {
    auto& text = *static_cast<std::string*>(data);
    if (text.empty() && error->desc != nullptr) text = error->desc;
    return 0;
  } catch (const std::exception&) {
    return -1;
  }
}

herr_t add_name(hid_t /*group*/, const char* name, const H5L_info_t* /*info*/, void* data) {
  try {
    static_cast<std::vector<std::string>*>(data)->emplace_back(name);
    return 0;
  } catch (const std::exception&) {
    return -1;
  }
}

}  // namespace

QuietErrors::QuietErrors() {
  // Must come before HDF5's first call. Its closing at exit complains on standard error when a
  // damaged object could not be opened; with every handle owned there is nothing left to close.
  H5dont_atexit();
  H5Eget_auto2(H5E_DEFAULT, &function_, &data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

QuietErrors::~QuietErrors() {
  H5Eset_auto2(H5E_DEFAULT, function_, data_);
}

std::string reason() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, &keep_first, &text);
  return text.empty() ? "" : ": " + text;
}

Properties creation(hid_t list_class) {
  Properties properties(H5Pcreate(list_class));
  H5Pset_obj_track_times(properties.get(), false);
  return properties;
}

Member member(hid_t group, const std::string& name) {
  if (H5Lexists(group, name.c_str(), H5P_DEFAULT) <= 0) return Member::kNone;
  H5L_info_t link{};
  if (H5Lget_info(group, name.c_str(), &link, H5P_DEFAULT) < 0) return Member::kOther;
  if (link.type != H5L_TYPE_HARD) return Member::kOther;
  const Handle<H5Oclose> object(H5Oopen(group, name.c_str(), H5P_DEFAULT));
  if (!object.valid()) return Member::kOther;
  const H5I_type_t type = H5Iget_type(object.get());
  if (type == H5I_GROUP) return Member::kGroup;
  return type == H5I_DATASET ? Member::kDataset : Member::kOther;
}

bool list(hid_t group, std::vector<std::string>& names) {
  return H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, &add_name, &names) >= 0;
}

}  // namespace halftone::hdf5
