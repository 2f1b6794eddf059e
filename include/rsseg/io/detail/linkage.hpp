// SPDX-License-Identifier: MIT
// Where the bodies of rsseg::io and of the reports live. stb_image, nlohmann-json and GDAL cost more to compile than everything else
// here together, so that the headers declare, and io/detail/*_impl.hpp and train/detail/*_impl.hpp define:
//  - header-only mode (default): each header ends by including its bodies, which are inline;
//  - compiled mode (RSSEG_COMPILED): headers only declare; one source file of librsseg defines RSSEG_IO_LIBRARY before it includes
//    rsseg/io/io.hpp and rsseg/train/report.hpp, and so holds the bodies once, as ordinary functions.
#pragma once

#if defined(RSSEG_IO_LIBRARY)
#define RSSEG_IO_INLINE
#define RSSEG_IO_BODIES 1
#elif defined(RSSEG_COMPILED)
#define RSSEG_IO_INLINE
#define RSSEG_IO_BODIES 0
#else
#define RSSEG_IO_INLINE inline
#define RSSEG_IO_BODIES 1
#endif
