"use strict";
// Everything comes from this server: no validator, no fonts, no other address is asked.
window.ui = SwaggerUIBundle({
  url: "/docs/openapi.json",
  dom_id: "#operations",
  deepLinking: true,
  docExpansion: "list",
  filter: true,
  displayOperationId: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  defaultModelRendering: "example",
  validatorUrl: null,
  persistAuthorization: false,
});
