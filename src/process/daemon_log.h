#pragma once
// What the log of a daemon that is gone says about its end, for the error that users see.
//
// Threads: any; reads a file.

#include <string>

namespace mobula::process {

// The last lines of <session_directory>/daemon.log that are errors, or no lines of the log at all: what
// a failed check or the C library wrote before the end. "" if there are none, or no file.
std::string last_complaints(const std::string& session_directory);

}  // namespace mobula::process
