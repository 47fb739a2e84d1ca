// Entry point of the tests that run the cuda backend's kernels on the host.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
