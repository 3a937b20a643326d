// Package openapi serves the OpenAPI document of a service, which tools/openapi generates, and the page that shows it.
package openapi

import (
	"bytes"
	"fmt"
	"net/http"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/gin-gonic/gin"
	swaggerFiles "github.com/swaggo/files"
	ginSwagger "github.com/swaggo/gin-swagger"
)

// The paths of the document and of the page.
const (
	Path     = "/openapi.json"
	PagePath = "/docs"
)

// indexPath is the page itself. The files that it loads lie beside it.
const indexPath = PagePath + "/index.html"

// pageFiles returns the page and all files that it loads. It needs no other server.
func pageFiles() []string {
	return []string{
		"index.html", "index.css", "swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js",
		"swagger-initializer.js", "favicon-16x16.png", "favicon-32x32.png",
	}
}

// Register serves document, in JSON, at Path, and the page under the given title at PagePath.
func Register(routes gin.IRoutes, document []byte, title string) {
	read := []string{http.MethodGet, http.MethodHead}
	routes.Match(read, Path, answer(document))
	routes.Match(read, PagePath, func(c *gin.Context) { c.Redirect(http.StatusFound, indexPath) })
	page := ginSwagger.CustomWrapHandler(&ginSwagger.Config{
		URL:   ".." + Path, // relative to the page, so that both may be served below a prefix
		Title: title, DocExpansion: "list", DeepLinking: true, DefaultModelsExpandDepth: 1,
	}, swaggerFiles.NewHandler())
	for _, name := range pageFiles() {
		path := PagePath + "/" + name
		routes.GET(path, func(c *gin.Context) {
			// The handler derives the prefix of the files from the first request, for good, even if a file name stands in its
			// query.
			c.Request.RequestURI = path
			page(c)
		})
	}
}

// answer answers with the document.
//
//	@Summary		This document
//	@Description	The service's own OpenAPI 3.0 document, as Swagger UI shows it at `/docs`.
//	@ID				getDocument
//	@Tags			documentation
//	@Param			If-None-Match	header	string	false	"The ETag of an earlier answer: if it still holds, the answer is a 304 without a body."	example("1f2e3d4c5b6a7980")
//	@Produce		json
//	@Success		200	{object}	object	"An OpenAPI 3.0 document."
//	@Success		304	"The document is the one of the given ETag."
//	@Header			200,304	{string}	ETag	"Names this version of the document."
//	@x-example-200	{"openapi":"3.0.3","info":{"title":"Accrue","version":"1"},"paths":{}}
//	@x-example-etag	"\"1f2e3d4c5b6a7980\""
//	@Router			/openapi.json [get]
func answer(document []byte) gin.HandlerFunc {
	etag := fmt.Sprintf(`"%016x"`, xxhash.Sum64(document))
	return func(c *gin.Context) {
		h := c.Writer.Header()
		h.Set("Content-Type", "application/json")
		h.Set("ETag", etag)
		h.Set("Cache-Control", "no-cache")
		http.ServeContent(c.Writer, c.Request, "", time.Time{}, bytes.NewReader(document))
	}
}
