#pragma once

#include <string>
#include <vector>

#include "dist/byte_plan.h"
#include "dist/communicator.h"
#include "dist/file_manifest.h"

namespace halftone {

// The rank that writes each of so many files: they are dealt to hosts in turn, and a host's files
// to its ranks in turn. `node_of`: each rank's host (World::node_of()).
std::vector<int> deal_files(size_t files, const std::vector<int>& node_of);
// The rank that reads a file again after `writer`: on another host, in turn; -1 where there is one.
std::vector<int> deal_checks(const std::vector<int>& writers, const std::vector<int>& node_of);

// Writes the plan's files into `folder`, whose subfolders exist: each under a temporary name, on
// the disk before it gets its own, and recorded in the manifest with the checksum of the bytes that
// were handed to the system. A file that the manifest has as complete and whose bytes match is left
// alone. Where there are several hosts each file is read again on another one than wrote it;
// VerificationError where the bytes are others. ResourceError before anything is written where the
// free space is too little. Returns the records in the plan's order. Collective.
std::vector<FileRecord> reshard(const BytePlan& plan, const fs::path& folder,
                                const FileManifest& manifest, const std::vector<int>& node_of,
                                Communicator& ranks);

}  // namespace halftone
