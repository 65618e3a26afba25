// SPDX-License-Identifier: Apache-2.0
// Made for the fuzzing alone, with `trirectl pki`: they protect nothing.
#pragma once

#include "trireme/credentials/trust.hpp"

namespace trireme::fuzz {

inline constexpr const char* kAuthority =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBaDCCAQugAwIBAgIQbYHbcxIzjVKHgD+vLTfl0TAMBggqhkjOPQQDAgUAMBAx\n"
    "DjAMBgNVBAMMBWZsZWV0MB4XDTI2MDYxNTEyMDAwMFoXDTM2MDYxNDEyMDAwMFow\n"
    "EDEOMAwGA1UEAwwFZmxlZXQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATgZ+Z6\n"
    "1Axp3L0tDH7Q/Zq75ytpumHLHX/6gx81if+xnoqWnWIvKOrcfO51+0p2K8TUyA9R\n"
    "u1zrBwYOcLRfxPYCo0UwQzASBgNVHRMBAf8ECDAGAQH/AgEAMA4GA1UdDwEB/wQE\n"
    "AwIBBjAdBgNVHQ4EFgQUFPWCupCcKjELI5pwByVwt8qCvCAwDAYIKoZIzj0EAwIF\n"
    "AANJADBGAiEA5LvNTMKPKFtckYygL8ohdBBVmpMeZuHrh/kxIf0IbfwCIQC+91dd\n"
    "HYWaqq2TCSkQd35xfrSTzsOSOqFwDbuI5aJqNg==\n"
    "-----END CERTIFICATE-----\n";
inline constexpr const char* kCertificate =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBZTCCAQmgAwIBAgIQapqnnKZEb1kpVpNi8sFXyjAMBggqhkjOPQQDAgUAMBAx\n"
    "DjAMBgNVBAMMBWZsZWV0MB4XDTI2MDYxNTEyMDAwMFoXDTI3MDYxNTEyMDAwMFow\n"
    "EDEOMAwGA1UEAwwFd2ViLTAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQMB8NP\n"
    "E97SHRztl/DaO0PU1SYFt4CT0HqCtlPV8Q1uXQLYRiii3mF6iFw7shRVSaouQkJB\n"
    "/kbTvqbzvt4ZQmX3o0MwQTAOBgNVHQ8BAf8EBAMCA4gwHQYDVR0lBBYwFAYIKwYB\n"
    "BQUHAwEGCCsGAQUFBwMCMBAGA1UdEQQJMAeCBXdlYi0wMAwGCCqGSM49BAMCBQAD\n"
    "SAAwRQIgLEqJHQpnsl30lUMz0wglioM3PFi91qax1rgSBol/a1UCIQC2kh+PkKwB\n"
    "LRr9ro0Un6wTnRM7TzcLeU7QoJTtz5yoWw==\n"
    "-----END CERTIFICATE-----\n";
inline constexpr const char* kKey =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEIJlujD5Yd3aRIwuOObmEXBarRZplrBULQC1kA+6H/M/7oAoGCCqGSM49\n"
    "AwEHoUQDQgAEDAfDTxPe0h0c7Zfw2jtD1NUmBbeAk9B6grZT1fENbl0C2EYoot5h\n"
    "eohcO7IUVUmqLkJCQf5G076m877eGUJl9w==\n"
    "-----END EC PRIVATE KEY-----\n";
inline constexpr const char* kSecret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";

/// Noon of the day on which they were made.
inline credentials::Time now() {
  using namespace std::chrono;
  return sys_days(2026y / June / 15) + 12h;
}

}  // namespace trireme::fuzz
